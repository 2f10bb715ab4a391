// SPDX-License-Identifier: Apache-2.0
import Store
import Topology

/// What those who may only look do not see: passwords of sessions with routers outside.
extension TopologyObject {
    /// The object as a caller sees it.
    func seen(by caller: Caller) -> TopologyObject {
        guard caller.role == .viewer, case .port(var port) = self, let uplink = port.uplink else { return self }
        port.uplink = uplink.withoutSecrets
        return .port(port)
    }
}

extension Topology {
    /// The topology as a caller sees it.
    func seen(by caller: Caller) -> Topology {
        guard caller.role == .viewer else { return self }
        var topology = self
        for path in ports.uplinks { topology.ports[path]?.uplink = ports[path]?.uplink?.withoutSecrets }
        return topology
    }
}

extension Uplink {
    /// What stands for a password that is not told.
    private static let hidden = "hidden"

    fileprivate var withoutSecrets: Uplink {
        var uplink = self
        for place in uplink.peers.indices where uplink.peers[place].password != nil {
            uplink.peers[place].password = Uplink.hidden
        }
        // What else the operator says to the daemon may be secret as well.
        if uplink.snippet != nil { uplink.snippet = "# \(Uplink.hidden)" }
        return uplink
    }
}
