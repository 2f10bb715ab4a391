// SPDX-License-Identifier: Apache-2.0
import Wire

/// Which format an object is written in: the first that has all that is said of it. The last condition that was added comes first.
extension TopologyObject {
    /// The number that is written ahead of its fields.
    var format: UInt8 {
        switch self {
        case .bridge(let bridge): bridge.format
        case .router(let router): router.format
        case .port(let port): port.format
        case .host(let host): host.rate == nil ? 1 : 2
        case .portGroup(let group): group.isStateful ? 4 : 1
        case .pool(let pool): pool.monitor == nil ? 1 : 2
        case .mirror(let mirror): mirror.target.isRecord || mirror.sample != nil ? 2 : 1
        case .zone, .chain, .addressGroup, .securityGroup, .tenant: 1
        }
    }
}

extension Bridge {
    fileprivate var format: UInt8 {
        if multicast != nil || names?.servers.isEmpty == false { return 6 }
        if names != nil || dhcp.contains(where: { $0.subnet.family == .ipv6 }) { return 5 }
        if !advertised.isEmpty { return 4 }
        if !dhcp.isEmpty { return 3 }
        return filters.isEmpty ? 1 : 2
    }
}

extension Router {
    fileprivate var format: UInt8 {
        if let bgp { return bgp.leaderless == BGPSpeaker.usualLeaderless ? 5 : 13 }
        if !translation.virtual.isEmpty { return 4 }
        if !translation.isEmpty { return 3 }
        return filters.isEmpty ? 1 : 2
    }
}

extension Port {
    fileprivate var format: UInt8 {
        if vxlan?.speaker != nil { return 12 }
        if let uplink, uplink.daemon != .bird { return 11 }
        if segment != nil || vxlan != nil { return 10 }
        if uplink != nil { return 9 }
        if quality.guarantee != nil { return 8 }
        if !services.isEmpty { return 7 }
        if !quality.isEmpty { return 5 }
        if !security.isEmpty || !allowed.isEmpty { return 3 }
        return filters.isEmpty && groups.isEmpty ? 1 : 2
    }
}

extension ObjectKey.Kind {
    /// The newest format of an object of this kind: a later one would be taken for one that is read.
    var newestFormat: UInt8 {
        switch self {
        case .bridge: 6
        case .router: 13
        case .port: 12
        case .portGroup: 4
        case .host, .pool, .mirror: 2
        case .zone, .chain, .addressGroup, .securityGroup, .tenant: 1
        }
    }
}
