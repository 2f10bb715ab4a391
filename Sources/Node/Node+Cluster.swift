// SPDX-License-Identifier: Apache-2.0
import API
import Consensus
import Foundation
import Gossip
import Linux
import NIOCore
import Store
import Synchronization
import TLS
import Topology
import Wire

/// What operators ask of the cluster.
extension Node: NodeInterface {
    /// A node that the leader has not heard for so long counts as down, seconds.
    static let downSeconds = 2.0

    // MARK: - How it is

    /// The cluster as this node, and the leader, see it.
    public func clusterStatus() async throws -> ClusterAnswer {
        let status = try await replica.status()
        let state = replica.state
        let known = await leaderKnowledge()
        let leader = status.agreement.leader
        let nodes = state.nodes.values.sorted { $0.name < $1.name }.map { node in
            answer(node, status, known?[node.id.description], hasKnowledge: known != nil)
        }
        let voters = status.members.voters
        let alive = nodes.filter { $0.role == "voter" && $0.status != "down" }.count
        let majority = voters.count / 2 + 1
        return ClusterAnswer(
            cluster: identity.cluster, name: state.cluster?.name ?? identity.clusterName, node: name,
            leader: leader.map { state.nodes[$0]?.name ?? "node \($0)" }, term: status.agreement.term,
            lastIndex: status.last.index, firstIndex: status.first, commitIndex: status.commit,
            appliedIndex: status.applied, revision: state.topology.revision, digest: state.digest.description,
            isChanging: status.members.isJoint, failureTolerance: leader == nil ? 0 : max(0, alive - majority),
            writeMedianMilliseconds: status.writeLatency?.median, writeP99Milliseconds: status.writeLatency?.p99,
            leaderlessSeconds: status.leaderlessSeconds, droppedFrames: status.counters.dropped,
            refusedConnections: status.counters.refused + status.counters.turnedAway, refusals: status.refusals,
            alarms: status.alarms, nodes: nodes)
    }

    private func answer(
        _ node: NodeRecord, _ status: ReplicaStatus, _ known: PeerKnowledge?, hasKnowledge: Bool
    ) -> NodeAnswer {
        let role: String
        switch status.members.role(of: node.id) {
        case .voter?: role = "voter"
        case .learner?: role = "learner"
        case .joining?: role = "joining"
        case nil: role = status.members.outgoing.contains(node.id) ? "leaving" : "none"
        }
        let peer = status.peers.first { $0.id == node.id }
        let isLeader = node.id == status.agreement.leader
        var health = "unknown"
        if node.id == status.id || isLeader {
            health = "up"
        } else if let silence = known?.silenceSeconds {
            health = silence < Node.downSeconds ? "up" : "down"
        } else if !hasKnowledge, let peer {
            health = peer.isConnected ? "up" : "down"
        }
        var answer = NodeAnswer(
            name: node.name, id: node.id.description, role: role, wanted: node.role.word, isLeader: isLeader,
            status: health, peerAddress: node.peerAddress, apiAddress: node.apiAddress, version: node.version,
            matchIndex: isLeader ? nil : known?.match, lastContactSeconds: isLeader ? nil : known?.silenceSeconds,
            replication: isLeader ? nil : known?.replication, problem: health == "up" ? nil : peer?.problem,
            certificateExpires: rfc3339(node.certificate.notAfter))
        if let heard = flowState.membership.withLock({ $0.state(of: PeerID(node.id.value)) }) {
            let now = monotonicNanoseconds()
            answer.gossip = heard.state.word
            answer.gossipSeconds = now > heard.since ? Double(now - heard.since) / 1e9 : 0
        }
        return answer
    }

    /// Why this node should get no work.
    public func whyNotReady() async -> String? {
        guard let status = try? await replica.status() else { return "the node stops" }
        if let stopped = status.stopped { return stopped }
        if status.agreement.leader == nil { return "there is no leader: what is known may be stale" }
        if replica.state.cluster == nil { return "nothing is known of the cluster yet" }
        if follower.applied < replica.state.topology.revision {
            return "revision \(replica.state.topology.revision) is not in force yet"
        }
        return nil
    }

    /// Answers about this node, or has another one answer.
    public func answer(_ request: NodeRequest, host: String?) async throws -> NodeResponse {
        guard let host, host != name else { return await answer(request) }
        let node = try find(host)
        let question = Array(try JSONEncoder().encode(request))
        // After a partition an answer may be lost with the connection that it was to go by. Questions change nothing, and are
        // asked again.
        for _ in 0..<2 {
            if let bytes = try? await ask(node.id, .tool, question, seconds: 1) {
                return try JSONDecoder().decode(NodeResponse.self, from: Data(bytes))
            }
        }
        return try JSONDecoder().decode(
            NodeResponse.self, from: Data(try await ask(node.id, .tool, question, seconds: 8)))
    }

    /// Waits until all nodes that are up have put a revision in force.
    public func wait(for revision: UInt64, seconds: Double) async -> WaitAnswer {
        var answer = WaitAnswer(revision: revision, applied: [], lagging: [], unreachable: [])
        let known = await leaderKnowledge()
        let leader = replica.agreement.leader
        await withTaskGroup(of: (String, Bool?).self) { group in
            for node in replica.state.nodes.values {
                if node.id == replica.id {
                    group.addTask { [self] in (node.name, await follower.wait(for: revision, seconds: seconds)) }
                    continue
                }
                let silence = known?[node.id.description]?.silenceSeconds
                if node.id != leader, let silence, silence >= Node.downSeconds {
                    answer.unreachable.append(node.name)
                    continue
                }
                group.addTask { [self] in
                    var out = ByteWriter()
                    out.number(revision)
                    out.number(UInt32(seconds * 1000))
                    let bytes = try? await ask(node.id, .await, out.bytes, seconds: Int64(seconds) + 1)
                    return (node.name, bytes.map { $0 == [1] })
                }
            }
            for await (name, isApplied) in group {
                switch isApplied {
                case true?: answer.applied.append(name)
                case false?: answer.lagging.append(name)
                case nil: answer.unreachable.append(name)
                }
            }
        }
        answer.applied.sort()
        answer.lagging.sort()
        answer.unreachable.sort()
        return answer
    }

    // MARK: - Who belongs to it

    private func find(_ name: String) throws -> NodeRecord {
        if let node = replica.state.node(named: name) { return node }
        let known = replica.state.nodes.values.map(\.name).sorted().joined(separator: ", ")
        throw APIError(
            404, "not-found", "There is no such thing", "\(name): no such node",
            problems: [Problem(name, "there is no such node", remedy: "there are \(known)")])
    }

    private func submit(_ operations: [Transaction.Operation]) async throws {
        if case .failed(let failure, let problems) = try await replica.submit(operations) {
            throw APIError(failure, problems)
        }
    }

    /// Makes a token.
    public func makeToken(_ request: TokenRequest) async throws -> TokenAnswer {
        // Whoever founds a cluster and asks for a token at once is a moment early.
        for _ in 0..<250 where replica.state.activeAuthority == nil { try await Task.sleep(for: .milliseconds(20)) }
        let state = replica.state
        guard let active = state.activeAuthority else {
            throw StoreRefusal.refused("the cluster has no authority yet", "try again in a moment")
        }
        let role: NodeRecord.Role? = request.role == "voter" ? .voter : request.role == "learner" ? .learner : nil
        let secret = Cryptography.random(24)
        let token = JoinToken(
            id: hexadecimal(Cryptography.random(4)), secretHash: Cryptography.sha256(secret),
            expires: wallSeconds() + Int64(request.seconds ?? 3600), role: role)
        try await submit([.putToken(token)])
        // Voters can sign; more than one is named, since one may be down when the token is used.
        let others = state.nodes.values.filter { $0.role == .voter && $0.id != replica.id }.map(\.apiAddress).sorted()
        // One that can't sign is not worth asking.
        let own = state.nodes[replica.id]?.role == .voter && (try? certificates.signer(state)) != nil
        let text = Founding.Token(
            addresses: Array(((own ? [identity.apiAddress] : []) + others).prefix(3)), id: token.id, secret: secret,
            fingerprint: bytes(hexadecimal: active.fingerprint) ?? []
        ).text
        return TokenAnswer(
            id: token.id, token: text, expires: rfc3339(token.expires), role: role?.word ?? "auto", usedBy: nil)
    }

    /// Takes a node in.
    public func join(_ request: JoinRequest) async throws -> JoinAnswer {
        guard let secret = bytes(hexadecimal: request.secret), let id = UInt64(request.node, radix: 16), id != 0 else {
            throw APIError(400, "bad-request", "The request can't be read", "secret and node are hexadecimal")
        }
        guard isValidName(request.name), splitAddress(request.peerAddress) != nil,
            splitAddress(request.apiAddress) != nil,
            request.tunnelAddress.map({ IPAddress($0)?.family == .ipv4 }) ?? true
        else {
            throw APIError(
                422, "invalid", "What would come out is wrong",
                "name, peerAddress, apiAddress (address:port) and tunnelAddress (IPv4) must be right")
        }
        // Nothing is done for whoever has no token.
        if replica.state.tokens[request.token] == nil { try await replica.barrier() }
        func refuse(_ reason: String) -> APIError {
            APIError(
                .refused,
                [
                    Problem(
                        "token \(request.token.prefix(16))", reason, remedy: "make a new one: selvage cluster token")
                ])
        }
        guard let token = replica.state.tokens[request.token],
            Cryptography.areEqual(token.secretHash, Cryptography.sha256(secret))
        else { throw refuse("is none of this cluster") }
        guard token.expires >= wallSeconds() else { throw refuse("ended \(wallSeconds() - token.expires) s ago") }
        if let user = token.usedBy, user != NodeID(id) { throw refuse("was used already, by node \(user)") }
        // What can't be signed must not use the token up.
        guard try certificates.signer(replica.state) != nil else { throw Certificates.noKey }
        var record = NodeRecord(
            id: NodeID(id), name: request.name, role: .learner, peerAddress: request.peerAddress,
            apiAddress: request.apiAddress, version: request.version)
        let certificate: Certificate
        do {
            certificate = try certificates.sign(
                CertificateRequest(pem: request.certificateRequest), for: record, replica.state)
        } catch let error as TLSError { throw APIError(422, "invalid", "What would come out is wrong", "\(error)") }
        record.certificate = CertificateRecord(
            serial: certificate.serial, authority: replica.state.activeAuthority?.fingerprint ?? "",
            notAfter: certificate.notAfter)
        try await submit([
            .join(
                token: request.token, secretHash: Cryptography.sha256(secret), record,
                Topology().host(request.name, at: request.tunnelAddress))
        ])
        let state = replica.state
        let peers = state.nodes.values.filter { $0.id != record.id }.map { ($0.id.description, $0.peerAddress) }
        return JoinAnswer(
            cluster: identity.cluster, certificate: try certificate.pem(),
            authorities: state.authorities.values.map(\.certificate).joined(),
            role: (state.nodes[record.id] ?? record).role.word, peers: Dictionary(uniqueKeysWithValues: peers))
    }

    /// Whether voters that are up would still agree when some node does not vote any more.
    private func checkQuorum(without id: NodeID, _ name: String, _ what: String) async throws {
        let status = try await replica.status()
        let known = await leaderKnowledge() ?? [:]
        let left = status.members.voters.filter { $0 != id }
        let alive = left.filter { voter in
            voter == replica.id || voter == status.agreement.leader
                || (known[voter.description]?.silenceSeconds).map { $0 < Node.downSeconds } ?? false
        }
        guard !left.isEmpty, alive.count < left.count / 2 + 1 else { return }
        let state = replica.state
        let down = left.filter { !alive.contains($0) }.map { state.nodes[$0]?.name ?? "node \($0)" }.sorted()
        throw StoreRefusal.refused(
            "without \(name) only \(alive.count) of \(left.count) voters would be up (\(down.joined(separator: ", ")) not): the cluster could not commit anything",
            "bring \(down.joined(separator: ", ")) back first, or remove what is gone for good; --force \(what) all the same"
        )
    }

    /// Makes a node a voter or a learner.
    public func setRole(of name: String, to role: NodeRecord.Role, force: Bool) async throws {
        try await replica.barrier()
        let node = try find(name)
        guard node.role != role else { return }
        if role == .voter {
            var silence = await leaderKnowledge()?[node.id.description]?.silenceSeconds ?? .infinity
            // A node that was started this moment is a moment from being heard.
            for _ in 0..<30 where silence >= Node.downSeconds && !force && node.id != replica.agreement.leader {
                try await Task.sleep(for: .milliseconds(100))
                silence = await leaderKnowledge()?[node.id.description]?.silenceSeconds ?? .infinity
            }
            if node.id != replica.agreement.leader, silence >= Node.downSeconds, !force {
                throw StoreRefusal.refused(
                    "\(name) does not answer: a voter that is down makes the cluster weaker, not stronger",
                    "start it first; --force promotes it all the same")
            }
        } else {
            guard replica.state.nodes.values.contains(where: { $0.role == .voter && $0.id != node.id }) else {
                throw StoreRefusal.refused(
                    "\(name) is the only voter: nobody would be left to agree", "promote another node first")
            }
            if !force { try await checkQuorum(without: node.id, name, "demotes it") }
        }
        try await submit([.setRole(node.id, role)])
    }

    /// Takes a node out for ever.
    public func remove(_ name: String, force: Bool) async throws {
        try await replica.barrier()
        let node = try find(name)
        if node.role == .voter, !force {
            try await checkQuorum(without: node.id, name, "removes it")
            if let active = replica.state.activeAuthority {
                guard await isKeyKept(active, without: node.id) else {
                    throw StoreRefusal.refused(
                        "\(name) alone is known to have the key of the cluster's authority: nobody could sign certificates",
                        "wait some seconds until another voter has it; --force removes it all the same")
                }
            }
        }
        try await submit([.removeNode(node.id)])
        say("\(name) was removed")
    }

    /// Hands leadership over.
    public func transferLeadership(to target: String?) async throws -> String {
        let status = try await replica.status()
        guard let leader = status.agreement.leader else { throw StoreRefusal.noQuorum("there is no leader") }
        let wanted: NodeID
        if let target {
            wanted = try find(target).id
            if wanted == leader { return target }
        } else {
            let known = await leaderKnowledge() ?? [:]
            let others = status.members.voters.filter { $0 != leader }
            guard
                let best = others.max(by: { (known[$0.description]?.match ?? 0) < (known[$1.description]?.match ?? 0) })
            else { throw StoreRefusal.refused("there is no other voter", "let another node join first") }
            wanted = best
        }
        if leader == replica.id {
            try await replica.transfer(to: wanted)
        } else {
            var out = ByteWriter()
            out.number(wanted.value)
            _ = try await ask(leader, .transfer, out.bytes, seconds: 5)
        }
        // The one who was asked may have lost the election all the same.
        for _ in 0..<200 {
            if let now = replica.agreement.leader, now != leader {
                return replica.state.nodes[now]?.name ?? "node \(now)"
            }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw StoreRefusal.refused(
            "leadership was not taken over in time", "look at selvage cluster status, then try again")
    }

    // MARK: - Certificates

    /// Puts another secret in place of the one that seals flow state. The rest happens by itself: see ``StateService``.
    public func rotateStateSecret() async throws {
        try await replica.barrier()
        let state = replica.state
        guard state.stateKeys.values.allSatisfy({ $0.state == .active }) else {
            throw StoreRefusal.refused(
                "a change of the secret is under way", "selvage state peers shows how far it is; try again in a minute")
        }
        // Only nodes that vote may propose it.
        guard state.nodes[replica.id]?.role == .voter else {
            throw StoreRefusal.refused("\(name) is no voter", "ask a node that votes")
        }
        try await flowState.installSecret(state)
    }

    /// Puts another authority in place of the one that signs. The rest happens by itself: see ``Housekeeping``.
    public func rotateAuthority() async throws {
        try await replica.barrier()
        let state = replica.state
        guard state.nodes[replica.id]?.role == .voter, try certificates.signer(state) != nil else {
            throw Certificates.noKey
        }
        for other in state.authorities.values where other.state != .active {
            if other.state == .trusted, !(await isKeyKept(other)) {
                // Whoever made it is gone with its key: it will never sign.
                try await submit([.deleteAuthority(other.fingerprint)])
                continue
            }
            throw StoreRefusal.refused(
                "authority \(other.fingerprint.prefix(16)) is \(other.state.word): a change is under way",
                "selvage cluster certs shows what it waits for")
        }
        let now = wallSeconds()
        let authority = try Authority(
            commonName: "Selvage \(state.cluster?.name ?? "")", from: now - Founding.clockSkew,
            until: now + Founding.authorityLifetime)
        try Founding.write(authority, configuration.directory)
        try await submit([
            .putAuthority(
                AuthorityRecord(
                    fingerprint: hexadecimal(authority.certificate.fingerprint),
                    certificate: try authority.certificate.pem(), state: .trusted,
                    notAfter: authority.certificate.notAfter))
        ])
    }

    /// Whether any node has the key of an authority, one left out if said.
    private func isKeyKept(_ authority: AuthorityRecord, without left: NodeID? = nil) async -> Bool {
        if left != replica.id, certificates.hasKey(authority.fingerprint) { return true }
        for other in replica.state.nodes.values where other.id != replica.id && other.id != left {
            if (try? await ask(other.id, .hasKey, Array(authority.fingerprint.utf8))) == [1] { return true }
        }
        return false
    }

    /// Signs a client's certificate.
    public func signClient(_ request: ClientCertificateRequest) async throws -> ClientCertificateAnswer {
        let state = replica.state
        guard let role = AccessRole(request.role), isValidName(request.name) else {
            throw APIError(
                422, "invalid", "What would come out is wrong",
                "name is a name; role is viewer, tenant:NAME or operator")
        }
        let client = ClientIdentity(cluster: identity.cluster, name: request.name, role: role)
        let certificate: Certificate
        do {
            certificate = try certificates.sign(
                CertificateRequest(pem: request.certificateRequest), client: client, days: request.days ?? 365, state)
        } catch let error as TLSError { throw APIError(422, "invalid", "What would come out is wrong", "\(error)") }
        return ClientCertificateAnswer(
            certificate: try certificate.pem(), authorities: state.authorities.values.map(\.certificate).joined())
    }
}
