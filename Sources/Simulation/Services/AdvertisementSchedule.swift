// SPDX-License-Identifier: Apache-2.0
import Wire

/// When a host tells machines of routers unasked (RFC 4861 section 6.2.4): before what they know is over, soon when it is
/// otherwise, and more than once what is so no more (section 6.2.5). A value, stepped by times.
public struct AdvertisementSchedule: Sendable {
    typealias Speaker = AdvertisementProgram.Speaker

    private struct Bridge {
        var speakers: [Speaker] = []
        /// What was said and is not so any more, and how often that is still told.
        var withdrawn: [Speaker] = []
        var left = 0
        var next: UInt64 = 0
        var last: UInt64?
    }
    private var bridges: [Tag: Bridge] = [:]
    /// The first time that something is due; nanoseconds.
    public private(set) var next = UInt64.max

    /// The longest time between two that nobody asked for.
    static let interval = UInt64(AdvertisementProgram.interval) * 1_000_000_000
    /// The shortest time between two (`MIN_DELAY_BETWEEN_RAS`).
    static let pause: UInt64 = 3_000_000_000
    /// How soon a change is told: many changes in a row are told once.
    static let delay: UInt64 = 500_000_000
    /// How often it is told that something is so no more (`MAX_FINAL_RTR_ADVERTISEMENTS`).
    static let finals = 3

    /// A schedule of a host that has told nothing.
    public init() {}

    /// Takes note of a fabric.
    ///
    /// - Parameter now: nanoseconds of a clock that only goes on.
    public mutating func note(_ fabric: Fabric, now: UInt64) {
        if bridges.isEmpty && fabric.tables.services.isEmpty { return }
        var told: Set<Tag> = []
        for (index, services) in fabric.tables.services where fabric.bridges[Int(index)].isEnabled {
            guard let program = services.advertisements else { continue }
            let tag = fabric.bridges[Int(index)].stationsTag
            told.insert(tag)
            change(tag, to: fabric.speakers(program), now: now)
        }
        for tag in bridges.keys where !told.contains(tag) { change(tag, to: [], now: now) }
        next = bridges.values.map(\.next).min() ?? .max
    }

    private mutating func change(_ tag: Tag, to speakers: [Speaker], now: UInt64) {
        var bridge = bridges[tag] ?? Bridge()
        if bridge.speakers == speakers { return }
        let prefixes = Set(speakers.flatMap(\.prefixes))
        var gone: [Speaker] = []
        for (old, wasTold) in bridge.withdrawn.map({ ($0, true) }) + bridge.speakers.map({ ($0, false) }) {
            let lost = old.prefixes.filter { !prefixes.contains($0) }
            let same = speakers.first { $0.mac == old.mac }
            // Nothing to take back: it said no more than others or itself say now.
            if lost.isEmpty && (same != nil || !wasTold && old.head & 0xffff == 0) { continue }
            // A router that goes on for other networks stays what it is for them.
            var word = (same ?? old.withoutWay).without(lost)
            word.prefixes = lost
            gone.removeAll { $0.mac == word.mac && $0.prefixes == word.prefixes }
            gone.append(word)
        }
        bridge.speakers = speakers
        bridge.withdrawn = gone
        bridge.left = gone.isEmpty ? 0 : AdvertisementSchedule.finals
        let soon = max(now &+ AdvertisementSchedule.delay, bridge.last.map { $0 &+ AdvertisementSchedule.pause } ?? 0)
        bridge.next = bridge.last == nil ? soon : min(bridge.next, soon)
        bridges[tag] = speakers.isEmpty && gone.isEmpty ? nil : bridge
    }

    /// What is due: frames, and the ports of this host that they leave by.
    public mutating func due(_ fabric: Fabric, now: UInt64) -> [(port: PortIndex, frames: [[UInt8]])] {
        if now < next { return [] }
        var frames: [Tag: [[UInt8]]] = [:]
        for (tag, entry) in bridges where entry.next <= now {
            var bridge = entry
            frames[tag] = (bridge.withdrawn + bridge.speakers).map {
                $0.frame(to: .multicast(for: .allNodes), .allNodes)
            }
            bridge.last = now
            if bridge.left > 0 { bridge.left -= 1 }
            if bridge.left == 0 { bridge.withdrawn = [] }
            // Hosts that began at once do not go on at once.
            let longest = AdvertisementSchedule.interval
            bridge.next =
                bridge.left > 0
                ? now &+ AdvertisementSchedule.pause
                : now &+ longest / 2 &+ mix(now ^ tag.bits | 1, 0xad5e_0000_0000_0027) % (longest / 2)
            bridges[tag] = bridge.speakers.isEmpty && bridge.withdrawn.isEmpty ? nil : bridge
        }
        next = bridges.values.map(\.next).min() ?? .max
        return fabric.localPorts.compactMap { index in
            let port = fabric.ports[Int(index.value)]
            guard !port.isRouter, port.isEnabled, port.vlan == 0,
                let list = frames[fabric.bridges[Int(port.device)].stationsTag]
            else { return nil }
            return (index, list)
        }
    }
}
