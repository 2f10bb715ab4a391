// SPDX-License-Identifier: Apache-2.0
import Consensus
import Topology

/// Nodes, tokens, authorities and keys.
extension ClusterState {
    /// Nodes that become voters without being told to.
    static let automaticVoters = 5
    /// Tokens that are kept.
    static let tokenLimit = 1000

    mutating func performOnCluster(
        _ operation: Transaction.Operation, _ time: Int64, _ change: inout Change
    ) -> Outcome? {
        switch operation {
        case .setCluster(let record):
            touch(.cluster, &change)
            cluster = record
        case .join(let token, let hash, let node, let host): return join(token, hash, node, host, time, &change)
        case .putNode(let node):
            if removed[node.id] != nil { return wasRemoved(node) }
            if let problem = nameProblem(node) { return problem }
            touch(.node(node.id), &change)
            // Whoever tells of a node read its role some time before.
            var node = node
            if let known = nodes[node.id] { node.role = known.role }
            nodes[node.id] = node
        case .setRole(let id, let role):
            guard let node = nodes[id] else { return unknownNode(id) }
            if role != .voter, let refusal = lastVoter(node) { return refusal }
            touch(.node(id), &change)
            nodes[id]?.role = role
        case .removeNode(let id): return removeNode(id, time, &change)
        case .putToken(let token):
            for old in tokens.values where old.expires < time {
                touch(.token(old.id), &change)
                tokens[old.id] = nil
            }
            guard tokens.count < ClusterState.tokenLimit else {
                return .failed(
                    .refused,
                    [
                        Problem(
                            "tokens", "there are \(tokens.count) already", remedy: "take some back, or let them end")
                    ])
            }
            touch(.token(token.id), &change)
            tokens[token.id] = token
        case .deleteToken(let id):
            guard tokens[id] != nil else { return noSuch("token", id) }
            touch(.token(id), &change)
            tokens[id] = nil
        case .putAuthority(let authority):
            // One signs at a time.
            if authority.state == .active {
                for other in authorities.values where other.state == .active {
                    touch(.authority(other.fingerprint), &change)
                    authorities[other.fingerprint]?.state = .retiring
                }
            }
            touch(.authority(authority.fingerprint), &change)
            authorities[authority.fingerprint] = authority
        case .putStateKey(let key):
            guard key.number != 0 else { return noSuch("state key", "0") }
            // A number names one secret: what was sealed by it could not be opened by another.
            if let known = stateKeys[key.number], known.fingerprint != key.fingerprint {
                return .failed(
                    .refused,
                    [Problem("state key \(key.number)", "is another secret's", remedy: "use a number that is free")])
            }
            // One seals at a time.
            if key.state == .active {
                for other in stateKeys.values where other.state == .active && other.number != key.number {
                    touch(.stateKey(other.number), &change)
                    stateKeys[other.number]?.state = .retiring
                    stateKeys[other.number]?.since = key.since
                }
            }
            touch(.stateKey(key.number), &change)
            stateKeys[key.number] = key
        case .deleteStateKey(let number):
            guard stateKeys[number] != nil else { return noSuch("state key", "\(number)") }
            touch(.stateKey(number), &change)
            stateKeys[number] = nil
        case .deleteAuthority(let fingerprint):
            guard authorities[fingerprint] != nil else { return noSuch("authority", fingerprint) }
            touch(.authority(fingerprint), &change)
            authorities[fingerprint] = nil
        case .putKey(let key):
            touch(.key(key.name), &change)
            keys[key.name] = key
        case .deleteKey(let name):
            guard keys[name] != nil else { return noSuch("key", name) }
            touch(.key(name), &change)
            keys[name] = nil
        case .put, .delete, .lease, .release: break
        }
        return nil
    }

    private func noSuch(_ what: String, _ name: String) -> Outcome {
        .failed(.notFound, [Problem("\(what) \(name)", "there is no such \(what)", remedy: "list which there are")])
    }

    private func wasRemoved(_ node: NodeRecord) -> Outcome {
        .failed(
            .refused,
            [
                Problem(
                    node.name, "node \(node.id) was removed from this cluster",
                    remedy: "wipe its directory and let it join as a new node")
            ])
    }

    private func nameProblem(_ node: NodeRecord) -> Outcome? {
        // Certificates speak for names and addresses: nobody has those of another.
        for other in nodes.values.sorted(by: { $0.id < $1.id }) where other.id != node.id {
            for address in [node.peerAddress, node.apiAddress] {
                // What it has already it keeps.
                if let known = nodes[node.id], [known.peerAddress, known.apiAddress].contains(address) { continue }
                let host = splitAddress(address)?.host
                guard address == other.peerAddress || address == other.apiAddress || host == other.name else {
                    continue
                }
                return .failed(
                    .refused,
                    [
                        Problem(
                            node.name, "\(address) is the address of node \(other.name)",
                            remedy: "give each node an address and ports of its own")
                    ])
            }
        }
        guard let other = nodes.values.first(where: { $0.name == node.name && $0.id != node.id }) else { return nil }
        return .failed(
            .refused,
            [
                Problem(
                    node.name, "is the name of node \(other.id) already",
                    remedy:
                        "if that node is gone for good, remove it first (selvage cluster remove \(node.name)); else choose another name"
                )
            ])
    }

    private mutating func join(
        _ tokenID: String, _ hash: [UInt8], _ node: NodeRecord, _ host: Host?, _ time: Int64, _ change: inout Change
    ) -> Outcome? {
        func refuse(_ reason: String) -> Outcome {
            .failed(
                .refused,
                [Problem("token \(tokenID)", reason, remedy: "make a new one: selvage cluster token")])
        }
        guard var token = tokens[tokenID], token.secretHash == hash else { return refuse("is none of this cluster") }
        guard token.expires >= time else { return refuse("ended \(time - token.expires) s ago") }
        if let user = token.usedBy {
            // A node that did not hear the answer asks again, the same in all; one that has started has heard it.
            if user == node.id, let known = nodes[user], known.name == node.name, known.epoch == 0,
                known.peerAddress == node.peerAddress, known.apiAddress == node.apiAddress
            {
                return nil
            }
            return refuse("was used already, by node \(user)")
        }
        if removed[node.id] != nil { return wasRemoved(node) }
        if let problem = nameProblem(node) { return problem }
        var node = node
        let voters = nodes.values.count { $0.role == .voter }
        node.role = token.role ?? (voters < ClusterState.automaticVoters ? .voter : .learner)
        node.joined = time
        token.usedBy = node.id
        touch(.token(tokenID), &change)
        touch(.node(node.id), &change)
        tokens[tokenID] = token
        nodes[node.id] = node
        // A host of that name may have stayed from a node that is gone: where this one is, it says.
        if let host {
            var merged = topology.hosts[host.name] ?? Host(name: host.name)
            merged.tunnelAddresses.merge(host.tunnelAddresses) { _, new in new }
            if merged != topology.hosts[host.name] { return put(.host(merged), &change) }
        }
        return nil
    }

    private func lastVoter(_ node: NodeRecord) -> Outcome? {
        guard node.role == .voter, !nodes.values.contains(where: { $0.role == .voter && $0.id != node.id }) else {
            return nil
        }
        return .failed(
            .refused,
            [
                Problem(
                    node.name, "is the only voter: without it the cluster could not agree on anything",
                    remedy: "let another node join or promote one first")
            ])
    }

    private mutating func removeNode(_ id: NodeID, _ time: Int64, _ change: inout Change) -> Outcome? {
        guard let node = nodes[id] else { return unknownNode(id) }
        if let refusal = lastVoter(node) { return refusal }
        touch(.node(id), &change)
        touch(.removed(id), &change)
        nodes[id] = nil
        removed[id] = RemovedNode(id: id, name: node.name, at: time)
        for (pool, list) in leases where list.contains(where: { $0.owner == id }) {
            touch(.lease(pool), &change)
            let left = list.filter { $0.owner != id }
            leases[pool] = left.isEmpty ? nil : left
        }
        return nil
    }
}
