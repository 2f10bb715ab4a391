// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Wire

/// Something wrong with a topology: what, why, and what to do about it.
public struct Problem: Error, Sendable, Equatable {
    /// Name of the object: a path, a host or a zone.
    public var object: String
    /// What is wrong with it.
    public var reason: String
    /// What the reader can do.
    public var remedy: String

    /// A problem of an object.
    public init(_ object: some CustomStringConvertible, _ reason: String, remedy: String) {
        self.object = object.description
        self.reason = reason
        self.remedy = remedy
    }
}

extension Topology {
    /// Everything that is wrong with the topology as a whole, in order of object; empty when it can be applied.
    public func problems() -> [Problem] {
        problems(
            ports: Set(ports.keys), routers: Set(routers.keys), bridges: Set(bridges.keys), chains: Set(chains.keys),
            addressGroups: Set(addressGroups.keys), securityGroups: Set(securityGroups.keys), pools: Set(pools.keys),
            mirrors: Set(mirrors.keys), newMirrors: Set(mirrors.keys), settings: Set(settings.keys), hosts: true)
    }

    /// What a change may have made wrong: the ports and devices that it touched, their neighbors, and hosts. Takes no walk
    /// over what has nothing to do with it.
    public func problems(after change: TopologyDifference) -> [Problem] {
        var touched = change.ports.union(change.neighbors)
        for device in change.bridges.union(change.routers).union(change.routes.keys) {
            // A device that came or went, or became another kind: its ports say whether that is right.
            touched.formUnion(ports.ports(of: device).map(\.path))
        }
        for host in change.hosts where hosts[host] == nil { touched.formUnion(ports.bound(to: host).values.joined()) }
        if !change.hosts.isEmpty || !change.zones.isEmpty { touched.formUnion(ports.vxlans) }
        for path in change.ports {
            guard let port = ports[path] else { continue }
            // Whichever of them is looked at says what two have that one may.
            touched.formUnion(members(ofSegmentAt: path).map(\.path))
            if port.vxlan != nil, case .exterior(let host, _) = port.attachment {
                touched.formUnion(ports.bound(to: host).values.joined().filter { ports[$0]?.vxlan != nil })
            }
        }
        var routers = Set(change.routes.keys).union(change.routers)
        var bridges = change.bridges
        var chains = change.chains
        // Who names what went says so.
        for path in change.chains where self.chains[path] == nil {
            addUsers(of: path.tenant, &touched, &routers, &bridges, &chains)
        }
        for path in change.portGroups where portGroups[path] == nil {
            addUsers(of: path.tenant, &touched, &routers, &bridges, &chains)
        }
        var securityGroups = change.securityGroups
        for path in change.addressGroups where addressGroups[path] == nil {
            chains.formUnion(self.chains.values(of: path.tenant).map(\.path))
            routers.formUnion(self.routers.keys.lazy.filter { $0.tenant == path.tenant })
            securityGroups.formUnion(self.securityGroups.values(of: path.tenant).map(\.path))
        }
        for path in change.securityGroups where self.securityGroups[path] == nil {
            addUsers(of: path.tenant, &touched, &routers, &bridges, &chains)
            securityGroups.formUnion(self.securityGroups.values(of: path.tenant).map(\.path))
        }
        for path in change.pools {
            // Its members may be virtual addresses by now, and who names it when it went says so.
            routers.formUnion(self.routers.values.lazy.filter { $0.balances(path) }.map(\.path))
        }
        // What mirrors send to, and what their conditions name.
        var mirrors = change.mirrors
        for mirror in self.mirrors.values {
            if let port = mirror.target.port, change.ports.contains(port) { mirrors.insert(mirror.path) }
            let gone = change.portGroups.union(change.addressGroups).union(change.securityGroups)
            if gone.contains(where: { $0.tenant == mirror.path.tenant }) { mirrors.insert(mirror.path) }
        }
        if !ports.served.isEmpty {
            // What services' ports are, and what their conditions name.
            let gone = change.portGroups.union(change.addressGroups).union(change.securityGroups)
            for path in ports.served.keys {
                let isNamed = ports[path]?.services.contains { $0.ports.contains(where: change.ports.contains) }
                if isNamed == true || gone.contains(where: { $0.tenant == path.device.tenant }) { touched.insert(path) }
            }
        }
        // Both kinds of groups of ports share one set of names.
        securityGroups.formUnion(change.portGroups)
        for path in touched {
            guard let port = ports[path] else {
                // What it was linked to, or what routes named it.
                routers.insert(path.device)
                continue
            }
            routers.insert(path.device)
            // A bridge's station is the router port behind the link.
            if case .peer(let other) = port.attachment { touched.insert(other) }
            if case .exterior(let host, let interface) = port.attachment {
                touched.formUnion(ports.bound(to: host, interface: interface))
            }
        }
        return problems(
            ports: touched, routers: routers, bridges: bridges, chains: chains, addressGroups: change.addressGroups,
            securityGroups: securityGroups, pools: change.pools, mirrors: mirrors, newMirrors: change.mirrors,
            settings: change.settings,
            hosts: !change.hosts.isEmpty || !change.zones.isEmpty)
    }

    /// Everything of a tenant that may name a chain or a group.
    private func addUsers(
        of tenant: String, _ ports: inout Set<PortPath>, _ routers: inout Set<DevicePath>,
        _ bridges: inout Set<DevicePath>, _ chains: inout Set<DevicePath>
    ) {
        chains.formUnion(self.chains.values(of: tenant).map(\.path))
        bridges.formUnion(self.bridges.keys.lazy.filter { $0.tenant == tenant })
        routers.formUnion(self.routers.keys.lazy.filter { $0.tenant == tenant })
        for device in bridges.union(routers) where device.tenant == tenant {
            ports.formUnion(self.ports.ports(of: device).map(\.path))
        }
    }

    private func problems(
        ports touched: Set<PortPath>, routers touchedRouters: Set<DevicePath>, bridges touchedBridges: Set<DevicePath>,
        chains touchedChains: Set<DevicePath>, addressGroups touchedGroups: Set<DevicePath>,
        securityGroups touchedSecurity: Set<DevicePath>, pools touchedPools: Set<DevicePath>,
        mirrors touchedMirrors: Set<DevicePath>, newMirrors: Set<DevicePath>,
        settings touchedSettings: Set<String>, hosts withHosts: Bool
    ) -> [Problem] {
        var found: [Problem] = []
        var linked: Set<DevicePath> = []
        var shared: [DevicePath: Set<PortTable.StationName>] = [:]
        for path in touched {
            guard let port = ports[path] else { continue }
            check(port, &found)
            checkBinding(port, &found)
            checkFilters(port.filters, of: path, tenant: path.device.tenant, &found)
            checkGroups(of: port, &found)
            if !port.security.isEmpty || !port.allowed.isEmpty { checkSecurity(of: port, &found) }
            for name in ports.stationNames(of: port) where ports.mayBeShared(name) {
                shared[path.device, default: []].insert(name)
            }
            if link(of: port) != nil { linked.insert(path.device) }
        }
        for path in touchedRouters {
            guard let router = routers[path] else { continue }
            check(router, &found)
            checkFilters(router.filters, of: path, tenant: path.tenant, &found)
            if !router.translation.isEmpty { checkTranslation(of: router, &found) }
        }
        for path in touchedBridges {
            guard let bridge = bridges[path] else { continue }
            checkFilters(bridge.filters, of: path, tenant: path.tenant, &found)
            if !bridge.dhcp.isEmpty { checkDHCP(of: bridge, &found) }
            if !bridge.advertised.isEmpty { checkAdvertised(of: bridge, &found) }
            if let names = bridge.names { check(names, of: bridge, &found) }
        }
        for path in touchedChains { if let chain = chains[path] { check(chain, &found) } }
        for tenant in Set(touchedChains.map(\.tenant)) { checkJumps(of: tenant, &found) }
        for path in touchedGroups { if let group = addressGroups[path] { check(group, &found) } }
        for name in touchedSettings { if let settings = settings[name] { check(settings, &found) } }
        for path in touchedSecurity { if let group = securityGroups[path] { check(group, &found) } }
        for path in touchedMirrors { if let mirror = mirrors[path] { check(mirror, &found) } }
        for path in newMirrors { if let mirror = mirrors[path] { checkSources(of: mirror, &found) } }
        for path in touchedPools { if let pool = pools[path] { check(pool, &found) } }
        for (bridge, names) in shared { checkStations(of: bridge, names, &found) }
        checkBridgeLoops(from: linked.sorted(), &found)
        if withHosts { checkTunnels(&found) }
        checkPromises(of: touched, hosts: withHosts, &found)
        // The order must be the same on every node: what was refused is part of what is agreed on.
        return found.sorted { ($0.object, $0.reason, $0.remedy) < ($1.object, $1.reason, $1.remedy) }
    }

    private func check(_ port: Port, _ found: inout [Problem]) {
        if port.mac.isGroup || port.mac == .zero {
            found.append(
                Problem(
                    port.path, "MAC \(port.mac) is not that of one station",
                    remedy: "use an address whose first byte is even, such as \(Port.derivedMAC(for: port.path))"))
        }
        let owner = port.kind == .bridge ? bridges[port.path.device] != nil : routers[port.path.device] != nil
        if !owner {
            found.append(
                Problem(port.path, "\(port.path.device) does not exist", remedy: "add the device, or remove the port"))
        }
        switch port.vlan {
        case .access(let id) where id > 4094:
            found.append(Problem(port.path, "VLAN \(id) does not exist", remedy: "use 1 to 4094"))
        case .trunk(let allowed, let native):
            for id in (allowed ?? []).union(native.map { [$0] } ?? []).sorted() where id > 4094 {
                found.append(Problem(port.path, "VLAN \(id) does not exist", remedy: "use 1 to 4094"))
            }
        default: break
        }
        if case .peer(let other) = port.attachment {
            if let peer = ports[other] {
                if peer.attachment != .peer(port.path) {
                    found.append(
                        Problem(
                            port.path, "is linked to \(other), which is linked elsewhere",
                            remedy: "a port has one peer: link both to each other, or use another port"))
                } else if port.kind == .router, peer.kind == .router, port.path < peer.path {
                    checkCable(port, peer, &found)
                }
            } else {
                found.append(
                    Problem(
                        port.path, "is linked to \(other), which does not exist", remedy: "add it, or unlink the port"))
            }
        }
        if !port.quality.isEmpty { check(port.quality, of: port, &found) }
        if !port.services.isEmpty { checkServices(of: port, &found) }
        if port.uplink != nil { checkUplink(of: port, &found) }
        if port.segment != nil { checkSegment(of: port, &found) }
        if port.vxlan != nil { checkVXLAN(of: port, &found) }
        if port.addresses.count > Topology.addressesPerPort {
            found.append(
                Problem(
                    port.path, "has \(port.addresses.count) addresses, \(Topology.addressesPerPort) at most",
                    remedy: "spread them over several ports"))
        }
        for address in port.addresses.prefix(Topology.addressesPerPort) { checkAddress(address, port, &found) }
    }

    /// The two ends of a cable between routers are neighbors in one network.
    private func checkCable(_ port: Port, _ peer: Port, _ found: inout [Problem]) {
        for address in port.addresses {
            let others = peer.addresses.filter { $0.address.family == address.address.family }
            if others.contains(where: { $0.address == address.address }) {
                found.append(
                    Problem(
                        port.path, "has the address of its peer \(peer.path), \(address.address)",
                        remedy: "give each end of the link one of its own"))
            } else if !others.isEmpty, !others.contains(where: { address.network.contains($0.address) }) {
                found.append(
                    Problem(
                        port.path, "\(address) and its peer's \(others[0]) are of different networks",
                        remedy: "give both ends addresses of one network, such as 100.64.0.1/30 and 100.64.0.2/30"))
            }
        }
    }

    private func checkAddress(_ address: InterfaceAddress, _ port: Port, _ found: inout [Problem]) {
        let ip = address.address
        let network = address.network
        if ip.isMulticast || (ip.high | ip.low) == 0 || ip.v4?.isBroadcast == true {
            found.append(
                Problem(port.path, "\(ip) is not the address of one station", remedy: "use a unicast address"))
        } else if ip.family == .ipv4, address.length < 31 {
            let hostMask = ~UInt32(truncatingIfNeeded: prefixMask(address.length).high >> 32)
            let host = UInt32(truncatingIfNeeded: ip.high >> 32) & hostMask
            if host == 0 || host == hostMask {
                let what = host == 0 ? "network" : "broadcast"
                found.append(
                    Problem(
                        port.path, "\(ip) is the \(what) address of \(network)",
                        remedy: "use an address between them"))
            }
        }
    }

    private func check(_ router: Router, _ found: inout [Problem]) {
        if router.routes.count > Topology.routesPerRouter {
            found.append(
                Problem(
                    router.path, "has \(router.routes.count) routes, \(Topology.routesPerRouter) at most",
                    remedy: "summarize them"))
            return
        }
        checkSpeaker(of: router, &found)
        let own = ports(of: router.path)
        var networks: [(Prefix, Port)] = []
        for port in own {
            for address in port.addresses.prefix(Topology.addressesPerPort) {
                if !port.isMonitor,
                    let kept = Port.monitorAddresses.first(where: { $0.network.overlaps(address.network) })
                {
                    found.append(
                        Problem(
                            port.path,
                            "\(address) overlaps \(kept.network), by which the cluster checks members of pools",
                            remedy: "use another network"))
                }
                if let (other, holder) = networks.first(where: { $0.0.overlaps(address.network) }) {
                    let reason =
                        holder.path == port.path && other == address.network
                        ? nil : "\(address) overlaps \(holder.path) \(other)"
                    if let reason {
                        found.append(
                            Problem(
                                port.path, reason,
                                remedy:
                                    "two networks of one router must not overlap: narrow one of them, or link them to different routers"
                            ))
                    }
                }
                networks.append((address.network, port))
            }
            if port.addresses.isEmpty {
                found.append(
                    Problem(
                        port.path, "a router port has no address", remedy: "give it one, as in address: 10.0.0.1/24"))
            }
        }
        for route in router.routes {
            let name = "\(router.path) route to \(route.destination)"
            if let source = route.source, source.family != route.destination.family {
                found.append(
                    Problem(name, "from \(source) is of the other family", remedy: "use IPv4 with IPv4, IPv6 with IPv6")
                )
            }
            switch route.nextHop {
            case .blackhole, .reject: break
            case .port(let path):
                if path.isMonitor {
                    found.append(checksOnly(name, path))
                } else if !own.contains(where: { $0.path == path }) {
                    found.append(Problem(name, "\(path) is not a port of this router", remedy: knownPorts(own)))
                }
            case .gateway(let gateway, let via):
                if gateway.family != route.destination.family {
                    found.append(
                        Problem(
                            name, "via \(gateway) is of the other family", remedy: "use IPv4 with IPv4, IPv6 with IPv6")
                    )
                } else if via?.isMonitor == true
                    || Port.monitorAddresses.contains(where: { $0.network.contains(gateway) })
                {
                    found.append(checksOnly(name, via))
                } else if let via {
                    if !own.contains(where: { $0.path == via }) {
                        found.append(Problem(name, "\(via) is not a port of this router", remedy: knownPorts(own)))
                    }
                } else if !networks.contains(where: { $0.0.contains(gateway) }) {
                    let known = networks.map { $0.0.description }.joined(separator: ", ")
                    found.append(
                        Problem(
                            name, "via \(gateway) is in none of the router's networks",
                            remedy:
                                "use a neighbor in \(known.isEmpty ? "a network of a port" : known), or name the port"))
                } else if networks.contains(where: { $0.1.addresses.contains { $0.address == gateway } }) {
                    found.append(
                        Problem(
                            name, "via \(gateway) is the router's own address", remedy: "name the next router's address"
                        ))
                }
            }
        }
    }

    /// Nothing is routed to those who check members: their port comes and goes.
    private func checksOnly(_ route: String, _ port: PortPath?) -> Problem {
        Problem(
            route,
            "goes to \(port.map { "port \($0.name)" } ?? "the network"), by which the cluster checks members of pools",
            remedy: "name another port or neighbor")
    }

    private func knownPorts(_ ports: [Port]) -> String {
        ports.isEmpty ? "the router has no ports" : "it has " + ports.map(\.path.name).joined(separator: ", ")
    }

    /// Whether the MAC and the addresses of the station at a bridge port are those of no other. Of several the first by name
    /// has them, and the others are wrong.
    ///
    /// - Parameter checked: names that were looked at already: each is told once.
    /// Tells of names that more than one station of a bridge has, of those that may be such.
    private func checkStations(
        of bridge: DevicePath, _ names: Set<PortTable.StationName>, _ found: inout [Problem]
    ) {
        var holders: [PortTable.StationName: [Port]] = [:]
        // One walk over the bridge, however many are shared.
        for port in ports.ports(of: bridge) {
            for name in ports.stationNames(of: port) where names.contains(name) {
                holders[name, default: []].append(port)
            }
        }
        for (name, holders) in holders where holders.count > 1 {
            let stations = holders.sorted { $0.path < $1.path }.compactMap { ports.station(of: $0)?.station.path }
            guard let first = stations.first else { continue }
            for station in stations.dropFirst() {
                let problem =
                    if let address = name.address {
                        Problem(
                            station, "\(address) is already the address of \(first)",
                            remedy: "give each machine and router port on \(bridge) an address of its own")
                    } else {
                        Problem(
                            station, "MAC \(name.mac) is already that of \(first)",
                            remedy: "give each station on \(bridge) a MAC of its own, or leave it out")
                    }
                found.append(problem)
            }
        }
    }

    private func checkBinding(_ port: Port, _ found: inout [Problem]) {
        guard case .exterior(let host, let interface) = port.attachment else { return }
        if hosts[host] == nil {
            found.append(
                Problem(
                    port.path, "host \(host) does not exist",
                    remedy: hosts.isEmpty
                        ? "list it under hosts" : "use one of \(hosts.keys.sorted().joined(separator: ", "))"))
        }
        if interface.utf8.count > 15 || interface.isEmpty || interface.contains("/")
            || interface.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f })
        {
            found.append(
                Problem(
                    port.path, "\"\(interface)\" cannot name a network interface",
                    remedy: "use 1 to 15 characters without space and slash"))
        }
        let holders = ports.bound(to: host, interface: interface)
        if holders.count > 1, let first = holders.min(), first != port.path {
            found.append(
                Problem(
                    port.path, "interface \(interface) on host \(host) is already bound to \(first)",
                    remedy: "an interface belongs to one port"))
        }
    }

    /// The bridge port at the other end of a link between bridges.
    private func link(of port: Port) -> Port? {
        guard port.kind == .bridge, case .peer(let other) = port.attachment, let peer = ports[other],
            peer.kind == .bridge
        else { return nil }
        return peer
    }

    /// Bridges linked in a circle would multiply each broadcast for ever: there is no spanning tree inside the fabric.
    private func checkBridgeLoops(from devices: [DevicePath], _ found: inout [Problem]) {
        var seen: Set<DevicePath> = []
        for start in devices where !seen.contains(start) {
            seen.insert(start)
            // Each link of a bridge but the one that led to it must lead to a bridge that was not seen.
            var queue: [(device: DevicePath, via: PortPath?)] = [(start, nil)]
            while let (device, via) = queue.popLast() {
                for port in ports.linked(of: device).sorted(by: { $0.path < $1.path }) where port.path != via {
                    guard let peer = link(of: port) else { continue }
                    if seen.insert(peer.path.device).inserted {
                        queue.append((peer.path.device, peer.path))
                    } else if port.path < peer.path {
                        found.append(
                            Problem(
                                port.path, "the link to \(peer.path) closes a loop of bridges",
                                remedy: "remove one of the links: a frame would circle for ever"))
                    }
                }
            }
        }
    }

    private func checkTunnels(_ found: inout [Problem]) {
        var taken: [String: String] = [:]
        for host in hosts.values.sorted(by: { $0.name < $1.name }) {
            for (zone, address) in host.tunnelAddresses.sorted(by: { $0.key < $1.key }) {
                if zones[zone] == nil {
                    found.append(
                        Problem(host.name, "tunnel zone \(zone) does not exist", remedy: "list it under zones"))
                }
                // A host may have one address in several zones; two hosts that share it could not be told apart.
                if let other = taken.updateValue(host.name, forKey: "\(address)"), other != host.name {
                    found.append(
                        Problem(
                            host.name, "\(address) is already the address of host \(other)",
                            remedy: "each host needs a tunnel address of its own"))
                }
            }
        }
    }
}
