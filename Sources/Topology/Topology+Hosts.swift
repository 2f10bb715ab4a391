// SPDX-License-Identifier: Apache-2.0
import Wire

extension Topology {
    /// The host of a name, new if there is none, with an address for tunnels in the zone `default`.
    public func host(_ name: String, at tunnelAddress: String?) -> Host {
        var host = hosts[name] ?? Host(name: name)
        if let address = tunnelAddress.flatMap({ IPAddress($0) }) { host.tunnelAddresses["default"] = address }
        return host
    }
}
