// SPDX-License-Identifier: Apache-2.0
import Wire

/// What can be wrong with filters, chains and groups.
extension Topology {
    /// A chain of a tenant, by its own name.
    public func chain(_ name: String, of tenant: String) -> Chain? {
        chains[DevicePath(tenant: tenant, name: name)]
    }

    func checkFilters(
        _ filters: Filters, of object: some CustomStringConvertible, tenant: String, _ found: inout [Problem]
    ) {
        for (word, name) in [("inbound", filters.inbound), ("outbound", filters.outbound)] {
            guard let name, chain(name, of: tenant) == nil else { continue }
            found.append(
                Problem(
                    object, "\(word) filter \(name) does not exist",
                    remedy: "add the chain to tenant \(tenant), or take the filter away"))
        }
    }

    func check(_ chain: Chain, _ found: inout [Problem]) {
        if chain.rules.count > Chain.rulesPerChain {
            found.append(
                Problem(
                    "chain \(chain.path)", "has \(chain.rules.count) rules, \(Chain.rulesPerChain) at most",
                    remedy: "put some of them into a chain of their own and jump there, or use address groups"))
        }
        var ids: Set<String> = []
        for rule in chain.rules {
            let name = "chain \(chain.path) rule \(rule.id)"
            if !ids.insert(rule.id).inserted {
                found.append(Problem(name, "is there twice", remedy: "give each rule of a chain an id of its own"))
            }
            check(rule.condition, name, chain.path.tenant, &found)
            if case .jump(let other) = rule.action, self.chain(other, of: chain.path.tenant) == nil {
                found.append(
                    Problem(
                        name, "chain \(other) does not exist",
                        remedy: "add the chain to tenant \(chain.path.tenant), or jump to another"))
            }
        }
    }

    /// Whether chains come back to themselves or go too deep, over all of a tenant: a change of one may close a ring of others.
    func checkJumps(of tenant: String, _ found: inout [Problem]) {
        for chain in chains.values(of: tenant) { checkJumps(from: chain, &found) }
    }

    private func checkJumps(from chain: Chain, _ found: inout [Problem]) {
        if let way = cycle(from: chain) {
            found.append(
                Problem(
                    "chain \(chain.path)", "jumps back to itself: \(way.joined(separator: " -> "))",
                    remedy: "take one of these jumps away: a packet would go round for ever"))
        } else if let way = tooDeep(from: chain) {
            found.append(
                Problem(
                    "chain \(chain.path)",
                    "jumps more than \(Chain.depth) chains deep: \(way.joined(separator: " -> "))",
                    remedy: "let chains jump to fewer others"))
        }
    }

    private func targets(of chain: Chain) -> [Chain] {
        var seen: Set<String> = []
        return chain.rules.compactMap { rule in
            guard case .jump(let name) = rule.action, seen.insert(name).inserted else { return nil }
            return self.chain(name, of: chain.path.tenant)
        }
    }

    /// The way by which a chain comes back to itself.
    private func cycle(from chain: Chain) -> [String]? {
        var seen: Set<DevicePath> = []
        func walk(_ current: Chain, _ way: [String]) -> [String]? {
            for next in targets(of: current) {
                if next.path == chain.path { return way + [next.path.name] }
                guard seen.insert(next.path).inserted else { continue }
                if let found = walk(next, way + [next.path.name]) { return found }
            }
            return nil
        }
        return walk(chain, [chain.path.name])
    }

    /// A way of jumps that is too long; there is no cycle on it, or that is told instead.
    private func tooDeep(from chain: Chain) -> [String]? {
        var deepest: [DevicePath: Int] = [:]
        func walk(_ current: Chain, _ way: [String]) -> [String]? {
            if way.count > Chain.depth { return way }
            if let known = deepest[current.path], known >= way.count { return nil }
            deepest[current.path] = way.count
            for next in targets(of: current) {
                if let found = walk(next, way + [next.path.name]) { return found }
            }
            return nil
        }
        return walk(chain, [chain.path.name])
    }

    func check(_ condition: Condition, _ name: String, _ tenant: String, _ found: inout [Problem]) {
        func problem(_ reason: String, _ remedy: String) { found.append(Problem(name, reason, remedy: remedy)) }
        for group in [condition.inPortGroup, condition.outPortGroup, condition.ingressPortGroup].compactMap(\.?.value)
        where !isPortGroup(group, of: tenant) {
            problem("port group \(group) does not exist", "add it to tenant \(tenant), or name another")
        }
        for group in [condition.sourceGroup, condition.destinationGroup].compactMap(\.?.value)
        where addressGroups[DevicePath(tenant: tenant, name: group)] == nil {
            problem("address group \(group) does not exist", "add it to tenant \(tenant), or name another")
        }
        checkHeaders(of: condition, problem)
    }

    private func checkHeaders(of condition: Condition, _ problem: (String, String) -> Void) {
        if let vlan = condition.vlan?.value, vlan > 4094 {
            problem("VLAN \(vlan) does not exist", "use 1 to 4094, or 0 for untagged frames")
        }
        if let dscp = condition.dscp?.value, dscp > 63 { problem("DSCP \(dscp) does not exist", "use 0 to 63") }
        let families = Set(
            ((condition.sources?.value ?? []).union(condition.destinations?.value ?? [])).map(\.family))
        let sides = [condition.sources, condition.destinations].compactMap { $0 }
        if sides.count == 2, Set(sides[0].value.map(\.family)).isDisjoint(with: Set(sides[1].value.map(\.family))) {
            problem("source and destination are of different families", "use IPv4 or IPv6 for both")
        }
        for side in sides where side.value.isEmpty { problem("names no addresses", "say at least one prefix") }
        if let etherType = condition.etherType, !etherType.isInverted, !families.isEmpty {
            let wanted: UInt16 = families.contains(.ipv4) ? EtherType.ipv4 : EtherType.ipv6
            if families.count == 1, etherType.value != wanted {
                problem(
                    "asks for EtherType \(EtherType.name(of: etherType.value)) and for \(families.contains(.ipv4) ? "IPv4" : "IPv6") addresses",
                    "leave the EtherType out: the addresses say it")
            }
        }
        let ip = condition.ipProtocol
        let hasPorts = condition.sourcePorts != nil || condition.destinationPorts != nil
        if hasPorts {
            let carriers = [IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp]
            if ip == nil || ip?.isInverted == true || !carriers.contains(ip?.value ?? 0) {
                problem("asks for ports without a protocol that has them", "say protocol: tcp, udp or sctp")
            }
        }
        for ranges in [condition.sourcePorts, condition.destinationPorts].compactMap({ $0 }) {
            if ranges.value.isEmpty { problem("names no ports", "say at least one port") }
            for range in ranges.value.sorted() where range.first > range.last {
                problem("range \(range) ends before it begins", "write \(range.last)-\(range.first)")
            }
        }
        if condition.icmp != nil,
            ip == nil || ip?.isInverted == true || ![IPProtocol.icmp, IPProtocol.icmpv6].contains(ip?.value ?? 0)
        {
            problem("asks for an ICMP type without the protocol", "say protocol: icmp or icmpv6")
        }
        if let flags = condition.tcpFlags {
            if ip?.value != IPProtocol.tcp || ip?.isInverted == true {
                problem("asks for TCP flags without the protocol", "say protocol: tcp")
            }
            if flags.value.mask == 0 { problem("names no TCP flags", "say at least one, as in syn,!ack") }
        }
        if condition.fragment == .nonheader, condition.readsTransport {
            problem(
                "asks for ports, types or flags of fragments that have none",
                "use fragment: header, or leave the fragment out")
        }
        if let states = condition.states, states.isEmpty {
            problem("names no state", "say new, established, related or invalid")
        }
    }

    func checkGroups(of port: Port, _ found: inout [Problem]) {
        let tenant = port.path.device.tenant
        for group in port.groups.sorted() where portGroups[DevicePath(tenant: tenant, name: group)] == nil {
            found.append(
                Problem(
                    port.path, "port group \(group) does not exist",
                    remedy: "add it to tenant \(tenant), or take the port out of it"))
        }
    }

    func check(_ group: AddressGroup, _ found: inout [Problem]) {
        if group.members.count > AddressGroup.membersPerGroup {
            found.append(
                Problem(
                    "address group \(group.path)",
                    "has \(group.members.count) members, \(AddressGroup.membersPerGroup) at most",
                    remedy: "use shorter prefixes, or several groups"))
        }
    }
}
