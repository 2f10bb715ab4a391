// SPDX-License-Identifier: Apache-2.0

/// Hands out the tunnel keys (23 of 24 bits) of ports and the flood keys of bridges.
///
/// Until keys are allocated by the replicated log, every node must come to the same keys from the same manifest: a key
/// follows from the object's name, and the rare clash is resolved in order of name, whatever keys there were before: a
/// host that has just started must not come to others than one that has seen every revision.
public enum TunnelKeys {
    /// Keys lie in `first...last`; what is outside is reserved.
    public static let first: UInt32 = 0x00_0010
    /// The last key that is handed out. The other half is that of the same keys, ``sentOn``.
    public static let last: UInt32 = 0x7f_ffef

    /// Set in a key by a host that the packet was not for, since its port has just moved: it is not sent on again, whatever
    /// hosts think meanwhile of where the port is.
    public static let sentOn: UInt32 = 0x80_0000

    /// The key of what hosts send each other to see whether their tunnels work.
    public static let probe: UInt32 = 0x00_0001

    /// Gives each port and bridge of `topology` that has none a key.
    public static func assign(_ topology: inout Topology) {
        var taken: Set<UInt32> = []
        for port in topology.ports.values where port.tunnelKey != 0 { taken.insert(port.tunnelKey) }
        for bridge in topology.bridges.values where bridge.floodKey != 0 { taken.insert(bridge.floodKey) }
        func key(_ name: String) -> UInt32 {
            let span = UInt64(last - first + 1)
            var candidate = first + UInt32(stableHash(name) % span)
            while !taken.insert(candidate).inserted {
                candidate = candidate == last ? first : candidate + 1
            }
            return candidate
        }
        for path in topology.ports.keys.sorted() where topology.ports[path]?.tunnelKey == 0 {
            topology.ports[path]?.tunnelKey = key("port \(path)")
        }
        for path in topology.bridges.keys.sorted() where topology.bridges[path]?.floodKey == 0 {
            topology.bridges[path]?.floodKey = key("flood \(path)")
        }
    }
}
