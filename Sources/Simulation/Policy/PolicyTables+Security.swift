// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Topology
import Wire

/// Security groups as chains. Each group is two chains, one for what its machines get and one for what they send; ports that
/// are in the same groups share two more, which ask those by turns. So a rule that changes is one chain compiled again, and
/// a port that joins or leaves is none.
struct SecurityTables: Sendable {
    /// The groups that there are.
    var groups = NamedTable<SecurityGroup>()
    /// Chains of groups by name.
    var ofGroup: [DevicePath: (inward: Int32, outward: Int32)] = [:]
    /// Chains of sets of groups, by the names of the groups in order.
    var ofSet: [[DevicePath]: (inward: Int32, outward: Int32)] = [:]
    /// What rules name by the addresses of its machines: those, port by port.
    var members: [DevicePath: [PortPath: Set<Prefix>]] = [:]
}

extension PolicyTables {
    /// The address group that has the addresses of a security group's machines. No name of a user's has a space.
    static func membersPath(_ group: DevicePath) -> DevicePath {
        DevicePath(tenant: group.tenant, name: "members of \(group.name)")
    }

    /// Compiles groups that are new or changed.
    mutating func updateSecurity(_ topology: Topology, _ changed: Set<DevicePath>) {
        security.groups = topology.securityGroups
        let changed = changed.sorted()
        for path in changed where security.groups[path] == nil { forget(path) }
        for path in changed where security.groups[path] != nil && security.ofGroup[path] == nil {
            security.ofGroup[path] = (place(), place())
        }
        for path in changed {
            guard let group = security.groups[path] else { continue }
            for rule in group.outward {
                if case .group(let name) = rule.remote {
                    needMembers(of: DevicePath(tenant: path.tenant, name: name), topology)
                }
            }
            compile(group)
            for set in security.ofSet.keys where set.contains(path) { compile(set: set) }
        }
    }

    private mutating func forget(_ path: DevicePath) {
        security.ofGroup[path] = nil
        security.members[path] = nil
        indexOfGroup[PolicyTables.membersPath(path)] = nil
        // Ports that were in it are not, or it would still be there.
        for set in security.ofSet.keys where set.contains(path) { security.ofSet[set] = nil }
    }

    private mutating func place() -> Int32 {
        programs.append(nil)
        chains.append(nil)
        return Int32(programs.count - 1)
    }

    private mutating func put(_ program: ChainProgram, at index: Int32) {
        programs[Int(index)] = program
        chains[Int(index)] = program.view
        words = max(words, program.view.words)
    }

    private mutating func compile(_ group: SecurityGroup) {
        guard let place = security.ofGroup[group.path] else { return }
        let tenant = group.path.tenant
        for (index, rules, isInward) in [(place.inward, group.inward, true), (place.outward, group.outward, false)] {
            let lines = rules.enumerated().map { number, rule in
                var condition = rule.condition(isInward: isInward) { name in
                    PolicyTables.membersPath(DevicePath(tenant: tenant, name: name)).name
                }
                // Answers were let through before: what a rule lets pass is what begins.
                condition.states = [.new]
                return ChainSource.Line(place: number, condition: condition, action: .accept, target: -1)
            }
            let source = ChainSource(group.path, lines) { indexOfGroup[DevicePath(tenant: tenant, name: $0)] ?? -1 }
            let names = rules.map { "\($0.id): \(isInward ? "from" : "to") \($0)" }
            put(ChainProgram(source, tag: .portGroup(group.path), kind: .security(names)), at: index)
        }
    }

    // MARK: - Ports

    /// The chains of a port in groups: what its machine gets, and what it sends.
    mutating func security(of names: Set<String>, tenant: String) -> (inward: Int32, outward: Int32) {
        let set = names.sorted().map { DevicePath(tenant: tenant, name: $0) }
        if let known = security.ofSet[set] { return known }
        let place = (inward: self.place(), outward: self.place())
        security.ofSet[set] = place
        compile(set: set)
        return place
    }

    /// What every machine in a group may get or send: what finds neighbors and addresses, and answers.
    private static func basics(isInward: Bool) -> [(name: String, condition: Condition)] {
        var list: [(name: String, condition: Condition)] = []
        func add(_ name: String, _ change: (inout Condition) -> Void) {
            var condition = Condition()
            change(&condition)
            list.append((name, condition))
        }
        add("arp") { $0.etherType = Match(EtherType.arp) }
        // Multicast listeners, routers and neighbors (RFC 2710, 3810, 4861); what machines may not say of these is stopped
        // where they say it.
        for type in [130, 131, 132, 133, 134, 135, 136, 137, 143] as [UInt8] {
            add("nd") {
                $0.ipProtocol = Match(IPProtocol.icmpv6)
                $0.icmp = Match(ICMPMatch(type: type))
            }
        }
        add("igmp") { $0.ipProtocol = Match(GroupMessage.igmp) }
        for (client, server) in [(68, 67), (546, 547)] as [(UInt16, UInt16)] {
            add("dhcp") {
                $0.ipProtocol = Match(IPProtocol.udp)
                let (from, to) = isInward ? (server, client) : (client, server)
                $0.sourcePorts = Match([PortRange(from, from)])
                $0.destinationPorts = Match([PortRange(to, to)])
            }
        }
        add("answers") { $0.states = [.established, .related] }
        return list
    }

    private mutating func compile(set: [DevicePath]) {
        guard let place = security.ofSet[set], let first = set.first else { return }
        for (index, isInward) in [(place.inward, true), (place.outward, false)] {
            var lines: [ChainSource.Line] = []
            var names: [String] = []
            func add(_ name: String, _ condition: Condition, _ action: ChainEntry.Action, _ target: Int32 = -1) {
                lines.append(.init(place: lines.count, condition: condition, action: action, target: target))
                names.append(name)
            }
            for (name, condition) in PolicyTables.basics(isInward: isInward) {
                add("\(name): accept", condition, .accept)
            }
            let groups = set.compactMap { security.groups[$0] }
            if !isInward, groups.allSatisfy(\.outward.isEmpty) {
                var invalid = Condition()
                invalid.states = [.invalid]
                add("invalid: drop, of no connection", invalid, .drop)
                add("rest: accept, its groups let out everything", Condition(), .accept)
            } else {
                for group in groups {
                    guard let chain = security.ofGroup[group.path] else { continue }
                    add(
                        "group \(group.path.name): its rules", Condition(), .jump,
                        isInward ? chain.inward : chain.outward)
                }
                add("rest: drop, no group lets it \(isInward ? "in" : "out")", Condition(), .drop)
            }
            let title = set.map(\.name).joined(separator: ", ")
            let path = DevicePath(tenant: first.tenant, name: title)
            let source = ChainSource(path, lines) { _ in -1 }
            put(ChainProgram(source, tag: .portGroup(first), kind: .security(names)), at: index)
        }
    }

    // MARK: - Addresses of machines

    private mutating func needMembers(of group: DevicePath, _ topology: Topology) {
        guard security.members[group] == nil else { return }
        var members: [PortPath: Set<Prefix>] = [:]
        for port in topology.ports.values where port.path.device.tenant == group.tenant {
            if port.security.contains(group.name) { members[port.path] = PolicyTables.addresses(of: port) }
        }
        security.members[group] = members
        compileMembers(of: group)
    }

    private static func addresses(of port: Port) -> Set<Prefix> {
        Set(port.addresses.map { Prefix($0.address, length: $0.address.family.width) })
            .union(port.allowed.map(\.prefix))
    }

    private mutating func compileMembers(of group: DevicePath) {
        let path = PolicyTables.membersPath(group)
        let all = (security.members[group] ?? [:]).values.reduce(into: Set<Prefix>()) { $0.formUnion($1) }
        put(AddressGroupProgram(.addressGroup(path), all), at: path)
    }

    /// Takes account of ports that changed.
    mutating func updateMembers(_ changed: Set<PortPath>, _ topology: Topology) {
        guard !security.members.isEmpty else { return }
        var dirty: Set<DevicePath> = []
        for path in changed {
            let port = topology.ports[path]
            for group in security.members.keys where group.tenant == path.device.tenant {
                let addresses = port.flatMap {
                    $0.security.contains(group.name) ? PolicyTables.addresses(of: $0) : nil
                }
                if security.members[group]?[path] != addresses {
                    security.members[group]?[path] = addresses
                    dirty.insert(group)
                }
            }
        }
        for group in dirty { compileMembers(of: group) }
    }
}

extension TopologyDifference {
    /// The tags of security groups and of the addresses of their machines that changed.
    func securityTags(from old: Topology, to new: Topology) -> Set<Tag> {
        var tags = Set(securityGroups.map(Tag.portGroup))
        for path in ports {
            let (before, after) = (old.ports[path], new.ports[path])
            guard
                before?.security != after?.security || before?.addresses != after?.addresses
                    || before?.allowed != after?.allowed
            else { continue }
            for name in (before?.security ?? []).union(after?.security ?? []) {
                let group = DevicePath(tenant: path.device.tenant, name: name)
                tags.insert(.addressGroup(PolicyTables.membersPath(group)))
            }
        }
        return tags
    }
}
