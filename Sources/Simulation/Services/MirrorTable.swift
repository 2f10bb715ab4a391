// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Topology
import Wire

/// Mirrors, compiled: which of them copy at a port or a device.
struct MirrorTable: Sendable {
    /// A mirror as the simulation reads it.
    struct Entry: Sendable {
        let mirror: Mirror
        /// Its conditions as a list of rules; `nil`: all packets are meant.
        let program: ChainProgram?
        /// The port that copies go to; -1 of a host outside.
        var target: Int32
        let tag: Tag
    }

    private(set) var entries: [Entry] = []
    /// Places in ``entries`` by port and way, and by device.
    private(set) var inward: [Int32: [Int32]] = [:]
    private(set) var outward: [Int32: [Int32]] = [:]
    private(set) var ofBridge: [Int32: [Int32]] = [:]
    private(set) var ofRouter: [Int32: [Int32]] = [:]

    var isEmpty: Bool { entries.isEmpty }

    init() {}

    /// The mirrors of a topology whose ports and devices have their places.
    ///
    /// - Parameter old: what was compiled before, of the same address groups.
    init(_ topology: Topology, _ tables: FabricTables, after old: MirrorTable?) {
        var known: [DevicePath: Entry] = [:]
        for entry in old?.entries ?? [] { known[entry.mirror.path] = entry }
        for mirror in topology.mirrors.values.sorted(by: { $0.path < $1.path }) where mirror.isEnabled {
            let place = Int32(entries.count)
            var target: Int32 = -1
            if let port = mirror.target.port {
                guard let index = tables.index(of: port) else { continue }
                target = index
            }
            var entry =
                known[mirror.path].flatMap { $0.mirror == mirror ? $0 : nil }
                ?? Entry(
                    mirror: mirror,
                    program: ChainProgram(
                        matching: mirror.conditions, mirror.path, tag: .mirror(mirror.path), tables), target: target,
                    tag: .mirror(mirror.path))
            entry.target = target
            entries.append(entry)
            for source in mirror.sources.sorted() {
                if let path = mirror.port(of: source) {
                    guard let index = tables.index(of: path) else { continue }
                    if mirror.direction != .out { inward[index, default: []].append(place) }
                    if mirror.direction != .in { outward[index, default: []].append(place) }
                } else if let index = tables.indexOfBridge[mirror.device(of: source)] {
                    ofBridge[index, default: []].append(place)
                } else if let index = tables.indexOfRouter[mirror.device(of: source)] {
                    ofRouter[index, default: []].append(place)
                }
            }
        }
    }

    /// Words of a bitmap of the largest list of conditions.
    var words: Int { entries.map { $0.program?.view.words ?? 0 }.max() ?? 0 }
}

extension ChainProgram {
    /// Conditions, one of which has to hold, as a list of rules; `nil` of none: all packets are meant.
    ///
    /// - Parameter owner: names whose they are; groups are of its tenant.
    convenience init?(matching conditions: [Condition], _ owner: DevicePath, tag: Tag, _ tables: FabricTables) {
        if conditions.isEmpty { return nil }
        let lines = conditions.enumerated().map { place, condition in
            ChainSource.Line(place: place, condition: condition, action: .accept, target: -1)
        }
        let source = ChainSource(owner, lines) { name in
            tables.policy.indexOfGroup[DevicePath(tenant: owner.tenant, name: name)] ?? -1
        }
        self.init(source, tag: tag)
    }
}

extension Tag {
    /// A mirror.
    public static func mirror(_ path: DevicePath) -> Tag { Tag(bits: stableHash("mirror \(path)")) }
}

extension TopologyDifference {
    /// Mirrors that changed, as they were and as they are.
    private func changedMirrors(_ old: Topology, _ new: Topology) -> [Mirror] {
        mirrors.flatMap { path in [old, new].compactMap { $0.mirrors[path] } }
    }

    /// The tags of what mirrors that changed copy, or copied: no flow knows of one that it has not met.
    func mirrorTags(from old: Topology, to new: Topology) -> Set<Tag> {
        var tags = Set(mirrors.map(Tag.mirror))
        for mirror in changedMirrors(old, new) {
            for source in mirror.sources {
                let device = mirror.device(of: source)
                if let port = mirror.port(of: source) {
                    tags.insert(.port(port))
                    // What leaves by it alone is not flooded to its host.
                    tags.insert(.flood(bridge: .bridge(device)))
                } else {
                    tags.insert(.bridge(device))
                    tags.insert(.router(device))
                }
            }
        }
        return tags
    }

    /// Ports whose copies are others since mirrors changed.
    func mirroredPorts(_ old: Topology, _ new: Topology) -> Set<PortPath> {
        Set(changedMirrors(old, new).flatMap { $0.sources.compactMap($0.port) }.filter { new.ports[$0] != nil })
    }
}
