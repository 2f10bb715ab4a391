// SPDX-License-Identifier: Apache-2.0
import Consensus
import HashTreeCollections
import Topology

extension ClusterState {
    /// This state as that of a new cluster with one node: what tenants and operators drew stays, with keys for programs;
    /// other nodes, tokens, authorities and leases go with the old cluster.
    ///
    /// - Parameters:
    ///   - host: the node's host, where it is now.
    ///   - position: where the new cluster's log begins; not before this state's.
    public func refounded(
        as record: ClusterRecord, node: NodeRecord, authority: AuthorityRecord, host: Host, at position: LogPosition
    ) -> ClusterState {
        var state = ClusterState()
        state.applied = position
        state.members = Members(voters: [node.id])
        state.cluster = record
        state.topology = topology
        state.versions = versions
        if state.topology.hosts[host.name] != host {
            state.topology.hosts[host.name] = host
            state.topology.revision = position.index
            let key = ObjectKey.host(host.name)
            let version = Version(
                created: versions[key]?.version.created ?? position.index, modified: position.index)
            state.versions[key] = Stamp(
                version: version,
                hash: StateDigest(of: ClusterState.row(.host(host), version), named: .object(key)))
        }
        state.nextTunnelKey = nextTunnelKey
        state.takenTunnelKeys = takenTunnelKeys
        state.keys = keys
        state.nodes = [node.id: node]
        state.authorities = [authority.fingerprint: authority]
        state.removed = removed
        for other in nodes.values where other.id != node.id {
            state.removed[other.id] = RemovedNode(id: other.id, name: other.name, at: node.joined)
        }
        for key in state.rowKeys where key != .meta {
            if let row = state.row(key) { state.digest.add(StateDigest(of: row, named: key)) }
        }
        return state
    }
}

extension StateStore {
    /// Puts a state in place of whatever is there, durably; for a node that does not run.
    public func overwrite(with state: ClusterState) throws(StoreError) { try replace(with: state) }
}
