// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

extension Simulator {
    mutating func routerInput(_ index: Int32, _ port: PortRecord, _ packet: borrowing SimulatedPacket) {
        let router = fabric.routers[Int(port.device)]
        verdict.tags.append(router.tag)
        verdict.mask.include(.etherDestination)
        verdict.mask.bits.words[8] |= UInt64(0x1fff) << 48
        if key.hasVLAN {
            if key.vlanTCI & 0x0fff != 0 { return drop(.vlanNotAllowed, at: index) }
            setTag(0)
            // A tag behind the one that says a priority only is none of a router's.
            if key.hasVLAN { return drop(.vlanNotAllowed, at: index) }
        }
        let isGroup = key.etherDestination.isGroup
        guard isGroup || key.etherDestination == port.mac else { return drop(.notForRouter, at: index) }
        guard router.isEnabled else {
            drop(.routerDisabled, at: index)
            if !isGroup { prohibit(at: index, packet) }
            return
        }
        switch key.etherType {
        case EtherType.arp: routerARP(index, port)
        case EtherType.ipv4: routeIPv4(index, port, router, isGroup, packet)
        case EtherType.ipv6: routeIPv6(index, port, router, isGroup, packet)
        default: drop(.notIP, at: index)
        }
    }

    private mutating func routeIPv4(
        _ index: Int32, _ port: PortRecord, _ router: RouterRecord, _ isGroup: Bool, _ packet: borrowing SimulatedPacket
    ) {
        // A header that parsing refused has no protocol, no TTL and no addresses.
        verdict.mask.includeSource(prefix: 8)
        let first = UInt8(truncatingIfNeeded: key.words[11] >> 56)
        if first == 0 || first == 127 || first >= 224 {
            verdict.mask.includeSource(prefix: 32)
            verdict.mask.includeDestination(prefix: 32)
            verdict.mask.include(.ipTTL)
            return drop(layout.networkLength == 0 ? .malformed : .martian, at: index)
        }
        if isGroup {
            return drop(.multicast, at: index)
        }
        let destination = key.ipDestination
        if destination.high >> 60 >= 0xe {
            verdict.mask.includeDestination(prefix: 8)
            return drop(.multicast, at: index)
        }
        if destination.high >> 56 == 0 || destination.high >> 56 == 127 {
            verdict.mask.includeDestination(prefix: 8)
            return drop(.martianDestination, at: index)
        }
        if key.words[11] >> 48 == 0xa9fe || destination.high >> 48 == 0xa9fe {
            verdict.mask.includeSource(prefix: 16)
            verdict.mask.includeDestination(prefix: 16)
            return drop(.linkLocal, at: index)
        }
        // What was told apart above: 169.254/16 from its neighbors, by source and destination.
        if first == 169 { verdict.mask.includeSource(prefix: 16) }
        verdict.mask.includeDestination(prefix: 8)
        if destination.high >> 56 == 169 { verdict.mask.includeDestination(prefix: 16) }
        route(destination, root: router.root4, index, port, router, packet)
    }

    private mutating func routeIPv6(
        _ index: Int32, _ port: PortRecord, _ router: RouterRecord, _ isGroup: Bool, _ packet: borrowing SimulatedPacket
    ) {
        verdict.mask.includeSource(prefix: 16)
        let top = key.words[11] >> 48
        // Sources that begin with zeros are the unspecified, loopback and mapped addresses and little else.
        if top == 0 || top >> 8 == 0xff {
            verdict.mask.includeSource(prefix: 128)
            verdict.mask.includeDestination(prefix: 128)
            if layout.networkLength != 0, isGroup || key.ipSource.v6?.isUnspecified == true, routerND(index, port) {
                return
            }
            return drop(layout.networkLength == 0 ? .malformed : .martian, at: index)
        }
        let destination = key.ipDestination
        verdict.mask.includeDestination(prefix: 16)
        if isGroup || destination.isMulticast {
            if routerND(index, port) { return }
            return drop(.multicast, at: index)
        }
        // Never to be forwarded: the unspecified and the loopback address (RFC 4291 section 2.5).
        if destination.high == 0, destination.low <= 1 {
            verdict.mask.includeDestination(prefix: 128)
            return drop(.martianDestination, at: index)
        }
        if destination.high >> 48 == 0 { verdict.mask.includeDestination(prefix: 128) }
        let isLinkLocal = top >> 6 == 0xfe80 >> 6 || destination.high >> 54 == 0xfe80 >> 6
        if isLinkLocal, !owns(port, destination) {
            verdict.mask.includeDestination(prefix: 128)
            return drop(.linkLocal, at: index)
        }
        if owns(port, destination), routerND(index, port) { return }
        route(destination, root: router.root6, index, port, router, packet)
    }

    /// Whether the packet in hand checks a member of a pool, or is the answer to that.
    private func isCheck(from port: PortRecord) -> Bool {
        if port.isMonitor { return true }
        guard let match = translating.match, match.side == .reply else { return false }
        return Port.monitorSources.contains { $0.address == match.original.source }
    }

    /// Finds the route and goes on by it.
    private mutating func route(
        _ destination: IPAddress, root: Int32, _ index: Int32, _ port: PortRecord, _ router: RouterRecord,
        _ packet: borrowing SimulatedPacket
    ) {
        let place = FilterPlace(inPort: index, outPort: -1, device: router.tag)
        translating.view = router.translation
        guard router.translation < 0 || translateDestination(place, packet) else { return }
        let destination = router.translation < 0 ? destination : key.ipDestination
        // Whether a member gets what clients send is the operator's to say, not whether it is checked.
        guard isCheck(from: port) || passes(router.inbound, place, at: index, packet) else { return }
        verdict.tags.append(router.routesTag)
        let width = destination.family.width
        let lookup = RouteLookup(fabric, router, destination, root: root)
        let bits = rounded(lookup.bits, width)
        verdict.mask.includeDestination(prefix: bits)
        verdict.tags.append(
            bits < Tag.routeBits(destination.family)
                ? .wideRoutes(router: router.tag) : .routes(router: router.tag, near: destination))
        leftOut = 0
        var chosen = choose(lookup)
        if chosen == nil, leftOut > 0 {
            // Nothing else is left: what looks dead is tried.
            leftOut = -1
            chosen = choose(lookup)
        }
        guard let (record, prefixLength) = chosen else {
            if isTracing { noteDevice("router", fabric.routerPaths[Int(port.device)], "no route to \(destination)") }
            drop(.noRoute, at: index)
            return unreachable(v4Code: 0, v6Code: 0, at: index, packet)
        }
        switch record.action {
        case .local: deliverToRouter(index, destination, packet)
        case .broadcast: drop(.directedBroadcast, at: index)
        case .blackhole:
            if isTracing {
                noteDevice(
                    "router", fabric.routerPaths[Int(port.device)],
                    "\(destination) -> \(Prefix(destination, length: prefixLength)) blackhole")
            }
            drop(.blackhole, at: index)
        case .reject:
            if isTracing {
                noteDevice(
                    "router", fabric.routerPaths[Int(port.device)],
                    "\(destination) -> \(Prefix(destination, length: prefixLength)) reject")
            }
            drop(.rejected, at: index)
            prohibit(at: index, packet)
        case .forward: forward(record, prefixLength, index, port, packet)
        }
    }

    /// Sends a packet of the router's own where its routes say. False when they lead nowhere.
    mutating func originate(_ index: Int32, _ packet: borrowing SimulatedPacket) -> Bool {
        let port = fabric.ports[Int(index)]
        let destination = key.ipDestination
        guard port.isRouter, destination.v6?.isLinkLocal != true else { return false }
        let router = fabric.routers[Int(port.device)]
        let isV6 = destination.family == .ipv6
        leftOut = 0
        let lookup = RouteLookup(fabric, router, destination, root: isV6 ? router.root6 : router.root4)
        guard let (route, _) = choose(lookup), route.action == .forward else { return false }
        let isDirect = route.gateway.high | route.gateway.low == 0
        guard let mac = resolve(isDirect ? destination : route.gateway, behind: route.port) else {
            return verdict.wait != nil
        }
        key.etherSource = fabric.ports[Int(route.port)].mac
        key.etherDestination = mac
        written.include(.etherSource)
        written.include(.etherDestination)
        headerChanged()
        leave(route.port, from: -1, packet)
        return true
    }

    private mutating func forward(
        _ route: RouteRecord, _ prefixLength: Int, _ index: Int32, _ port: PortRecord,
        _ packet: borrowing SimulatedPacket
    ) {
        verdict.mask.include(.ipTTL)
        let ttl = key.ipTTL
        guard ttl > 1 else {
            drop(.ttlExceeded, at: index)
            return timeExceeded(at: index, packet)
        }
        let destination = key.ipDestination
        let isDirect = route.gateway.high | route.gateway.low == 0
        let next = isDirect ? destination : route.gateway
        if isTracing {
            noteDevice(
                "router", fabric.routerPaths[Int(port.device)],
                "\(destination) -> \(Prefix(destination, length: prefixLength)) "
                    + (isDirect ? "connected" : "via \(route.gateway)")
                    + ", port \(fabric.portPaths[Int(route.port)]), ttl \(ttl) -> \(ttl - 1)")
        }
        let router = fabric.routers[Int(port.device)]
        let place = FilterPlace(inPort: index, outPort: route.port, device: router.tag)
        guard isCheck(from: port) || passes(router.outbound, place, at: index, packet) else { return }
        if router.translation >= 0 {
            guard translateSource(place, toward: next, packet) else { return }
        }
        if isDirect { verdict.mask.includeDestination(prefix: destination.family.width) }
        guard let mac = resolve(next, behind: route.port) else {
            if verdict.wait != nil { return }
            drop(.neighborUnreachable, at: route.port)
            // Host unreachable for the destination itself, network unreachable for a gateway (RFC 1812 section 5.2.7.1).
            return unreachable(v4Code: isDirect ? 1 : 0, v6Code: 3, at: index, packet)
        }
        let out = fabric.ports[Int(route.port)]
        lastRouterPort = index
        key.ipTTL = ttl - 1
        written.include(.ipTTL)
        key.etherSource = out.mac
        key.etherDestination = mac
        written.include(.etherSource)
        written.include(.etherDestination)
        headerChanged()
        leave(route.port, from: index, packet)
    }

    /// The route of the longest prefix that has one for the packet, drawn or learned, and that prefix's length; of two of one
    /// length the drawn one.
    private mutating func choose(_ lookup: RouteLookup) -> (route: RouteRecord, length: Int)? {
        var (drawn, learned) = (lookup.drawn, lookup.learned)
        while true {
            let drawnLength = drawn.routes.isEmpty ? -1 : drawn.prefixLength
            if drawnLength < 0, learned.length < 0 { return nil }
            // Where none is for this source, or nothing arrives that way, the next shorter prefix has its turn.
            if drawnLength >= learned.length {
                let chosen = choose(drawn.routes, lookup.width)
                if chosen >= 0 { return (fabric.routing.routes[chosen], drawnLength) }
                drawn = fabric.routing.lookupShorter(lookup.destination, root: lookup.root, than: drawnLength)
            } else {
                if let ways = lookup.ofRouter?.ways(learned), let route = choose(ways, lookup.router) {
                    return (route, learned.length)
                }
                learned = lookup.ofRouter?.lookup(lookup.destination, shorterThan: learned.length) ?? .init()
            }
        }
    }

    /// Among routes of one prefix, best first: the longest source prefix that holds the source, then the lowest weight,
    /// then a share of the flows. -1 when none takes the source.
    @inline(__always)
    private mutating func choose(_ range: Range<Int>, _ width: Int) -> Int {
        var first = -1
        var count = 0
        for index in range {
            let route = fabric.routing.routes[index]
            if first >= 0 {
                let best = fabric.routing.routes[first]
                if route.sourceLength != best.sourceLength || route.weight != best.weight { break }
                if route.source == best.source, isAlive(route) { count += 1 }
                continue
            }
            if route.sourceLength > 0 {
                let common = key.ipSource.commonPrefix(route.source)
                verdict.mask.includeSource(prefix: rounded(min(common + 1, Int(route.sourceLength)), width))
                if common < Int(route.sourceLength) { continue }
            }
            guard isAlive(route) else { continue }
            first = index
            count = 1
        }
        return count <= 1 ? first : share(first, range)
    }

    /// Whether what a route sends arrives, as far as is known: one by a port of another host is left out while nothing arrives
    /// there, as if the port were unplugged.
    private mutating func isAlive(_ route: RouteRecord) -> Bool {
        guard leftOut >= 0, route.port >= 0 else { return true }
        return isAnswered(fabric.ports[Int(route.port)])
    }

    /// Whether what is sent to a port arrives at its host, as far as is known.
    mutating func isAnswered(_ port: PortRecord) -> Bool {
        guard port.attachment == .remote, port.host >= 0 else { return true }
        let host = fabric.hosts[Int(port.host)].tag
        let path = Tag.path(host: host)
        if verdict.tags.last != path { verdict.tags.append(path) }
        if state.canReach(host) { return true }
        leftOut += 1
        return false
    }

    /// Shares flows among routes of equal cost by rendezvous hashing: each flow ranks the routes by a hash of both, so
    /// that a route's coming or going moves only the flows that must move, and every host ranks alike.
    private mutating func share(_ first: Int, _ range: Range<Int>) -> Int {
        let hash = flowHash()
        let best = fabric.routing.routes[first]
        var winner = first
        var rank: UInt64 = 0
        for index in first..<range.upperBound {
            let route = fabric.routing.routes[index]
            if route.sourceLength != best.sourceLength || route.weight != best.weight { break }
            guard route.source == best.source, isAlive(route) else { continue }
            let score = mix(hash ^ route.identity, 0xa076_1d64_78bd_642f)
            if score > rank {
                rank = score
                winner = index
            }
        }
        return winner
    }

    /// What tells the packet's flow from others, the same on every host. It is matched.
    mutating func flowHash() -> UInt64 {
        verdict.mask.includeSource(prefix: 128)
        verdict.mask.includeDestination(prefix: 128)
        verdict.mask.include(.ipProtocol)
        verdict.mask.include(.ipFragment)
        var hash = mix(key.words[11] ^ key.words[13], key.words[12] &+ key.words[14] ^ 0xe703_7ed1_a0b4_28db)
        hash = mix(hash ^ UInt64(key.ipProtocol), 0x9e37_79b9_7f4a_7c15 ^ key.words[13])
        // All fragments of a packet must take one path, and only the first has ports.
        if key.ipFragment == FragmentKind.none, hasPorts {
            verdict.mask.include(.sourcePort)
            verdict.mask.include(.destinationPort)
            hash = mix(hash ^ UInt64(key.sourcePort) << 16 ^ UInt64(key.destinationPort), 0x8ebc_6af0_9c88_c6e3)
        }
        return hash
    }

    var hasPorts: Bool {
        mutating get {
            key.ipProtocol == IPProtocol.tcp || key.ipProtocol == IPProtocol.udp || key.ipProtocol == IPProtocol.sctp
        }
    }

    /// Prefix lengths that decide are rounded up, so that few distinct masks come of many routes: to 8 bits for IPv4,
    /// 16 for IPv6. Matching more bits than needed is sound, matching fewer is not.
    @inline(__always)
    mutating func rounded(_ bits: Int, _ width: Int) -> Int {
        width == 32 ? min(32, (bits + 7) & ~7) : min(128, (bits + 15) & ~15)
    }
}
