// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Topology
import Wire

/// Services that traffic of ports goes through, compiled: by the port whose traffic it is, and by the port of the service
/// where it comes back.
struct HopTable: Sendable {
    /// A service on the way of a port.
    struct Hop: Sendable {
        /// The port whose traffic it is.
        let port: PortPath
        let hop: ServiceHop
        /// Its conditions as a list of rules; `nil`: all packets are meant.
        let program: ChainProgram?
        /// Its ports, -1 where they are gone.
        var near: Int32
        var far: Int32

        /// Where packets leave for it.
        func entry(isSent: Bool) -> Int32 { isSent ? near : far }
    }

    /// What may come back by a service's port.
    struct Return: Sendable {
        /// The port whose traffic it is, and the service's place among those of the port.
        var port: Int32
        var place: Int
        /// Whether what the machine sent comes back here, and whether what it gets does.
        var isSent: Bool
        var isGot: Bool
    }

    private(set) var ofPort: [Int32: [Hop]] = [:]
    /// By the service's port and the tag, then by the port whose traffic it is: all of one network.
    private(set) var returns: [Int32: [UInt16: [Int32: Return]]] = [:]
    /// Ports by which services are reached, and whether that is without a tag.
    private(set) var ends: [Int32: Bool] = [:]

    var isEmpty: Bool { ofPort.isEmpty }

    init() {}

    /// The services of a topology whose ports have their places.
    ///
    /// - Parameter old: what was compiled before, of the same address groups.
    init(_ topology: Topology, _ tables: FabricTables, after old: HopTable?) {
        for path in topology.ports.served.keys.sorted() {
            guard let port = tables.index(of: path), let services = topology.ports.served[path] else { continue }
            let known = old?.ofPort[port] ?? []
            var hops: [Hop] = []
            for (place, service) in services.enumerated() {
                let near = tables.index(of: service.near) ?? -1
                let far = tables.index(of: service.far) ?? -1
                let program =
                    known.first { $0.port == path && $0.hop.conditions == service.conditions }?.program
                    ?? ChainProgram(
                        matching: service.conditions, path.device, tag: .port(path), tables)
                hops.append(Hop(port: path, hop: service, program: program, near: near, far: far))
                for end in [near, far] where end >= 0 {
                    ends[end] = ends[end] == true || service.vlan == 0
                }
                if near == far {
                    add(
                        near, service.vlan,
                        Return(
                            port: port, place: place, isSent: service.takesSent,
                            isGot: service.takesGot))
                } else {
                    if service.takesSent {
                        add(far, service.vlan, Return(port: port, place: place, isSent: true, isGot: false))
                    }
                    if service.takesGot {
                        add(near, service.vlan, Return(port: port, place: place, isSent: false, isGot: true))
                    }
                }
            }
            ofPort[port] = hops
        }
    }

    private mutating func add(_ service: Int32, _ vlan: UInt16, _ entry: Return) {
        if service >= 0 { returns[service, default: [:]][vlan, default: [:]][entry.port] = entry }
    }

    /// Words of a bitmap of the largest list of conditions.
    var words: Int { ofPort.values.joined().map { $0.program?.view.words ?? 0 }.max() ?? 0 }
}

extension Tag {
    /// Whether the machine at a port does its service, as far as its host sees.
    public static func service(at port: Tag) -> Tag { health(of: Tag.serviceMember, pool: port) }

    /// The health of a member of a pool, as seen from a router.
    package static func health(of member: UInt64, pool: Tag) -> Tag {
        Tag(bits: mix(pool.bits, member ^ 0x4ea1_7400_0000_0023))
    }

    /// What stands for the machine of a port among healths, which otherwise are of members of pools.
    public static let serviceMember: UInt64 = 0x5e71_1ce0_0000_0001
}

extension TopologyDifference {
    /// Ports by which services are reached whose traffic is other than before.
    func servicePorts(_ old: Topology, _ new: Topology) -> Set<PortPath> {
        if old.ports.served.isEmpty, new.ports.served.isEmpty { return [] }
        var found: Set<PortPath> = []
        for path in ports {
            let (was, now) = (old.ports.served[path] ?? [], new.ports.served[path] ?? [])
            if was != now { found.formUnion((was + now).flatMap(\.ports)) }
        }
        return found
    }

    /// The tags of what comes back by them, and of what else leaves by them, which is decided for each alone.
    func serviceTags(from old: Topology, to new: Topology) -> Set<Tag> {
        Set(servicePorts(old, new).flatMap { [.port($0), .flood(bridge: .bridge($0.device))] })
    }

    /// Whether services, or the places of their ports, may be others.
    func changesServices(_ old: Topology, _ new: Topology) -> Bool {
        if old.ports.served.isEmpty, new.ports.served.isEmpty { return false }
        return !addressGroups.isEmpty
            || ports.contains {
                old.ports.served[$0] != nil || new.ports.served[$0] != nil || old.ports.isService($0)
                    || new.ports.isService($0)
            }
    }
}
