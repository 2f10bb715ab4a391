// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// A copy of a packet for a mirror's target, besides its way.
public struct MirrorCopy: Sendable, Equatable {
    /// Where it goes.
    public enum Destination: Sendable, Equatable {
        /// A port, as any output.
        case port(Verdict.Destination)
        /// A host outside, as the mirror says.
        case outside(Mirror.Target)
    }
    /// Where it goes.
    public var destination: Destination
    /// Index in ``Verdict/headers``.
    public var header: Int32
    /// The mirror.
    public var mirror: DevicePath
    /// Bytes that are copied; 0: all.
    public var length: UInt16
    /// Whether the mirror has a limit.
    public var isLimited: Bool
    /// Of so many packets one is copied.
    public var sample: UInt32
    /// The port where it came in; `nil` of what devices make.
    public var ingress: PortIndex?
}

/// Mirrors: what passes is copied as it is at that point, and goes on as if nobody looked.
extension Simulator {
    /// Copies of one packet, at most.
    private static let mostCopies = 16

    /// What comes into a device by a port.
    ///
    /// - Parameter isDetour: whether it is on its way through a service, of which nobody is told.
    mutating func mirrorArrival(_ index: Int32, _ port: PortRecord, isDetour: Bool = false) {
        if let list = fabric.tables.mirrors.inward[index] {
            mirror(list, index, at: index, device: port, isDetour: isDetour)
        }
        let ofDevice =
            port.isRouter ? fabric.tables.mirrors.ofRouter[port.device] : fabric.tables.mirrors.ofBridge[port.device]
        if let list = ofDevice { mirror(list, index, at: index, device: port, isDetour: isDetour) }
    }

    /// Who is told of what comes in by a port was, before it went through a service.
    mutating func noteRecorded(_ index: Int32, _ port: PortRecord) {
        if fabric.tables.mirrors.isEmpty { return }
        recorded = (fabric.tables.mirrors.inward[index] ?? []) + (fabric.tables.mirrors.ofBridge[port.device] ?? [])
    }

    /// What leaves a device by a port.
    ///
    /// - Parameter isDetour: see ``mirrorArrival(_:_:isDetour:)``.
    mutating func mirrorDeparture(_ index: Int32, from: Int32, _ port: PortRecord, isDetour: Bool = false) {
        if let list = fabric.tables.mirrors.outward[index] {
            mirror(list, from, at: index, device: port, isDetour: isDetour)
        }
    }

    private mutating func mirror(
        _ list: [Int32], _ inPort: Int32, at index: Int32, device port: PortRecord, isDetour: Bool
    ) {
        let device = port.isRouter ? fabric.routers[Int(port.device)].tag : fabric.bridges[Int(port.device)].tag
        for place in list where verdict.copies.count < Simulator.mostCopies {
            let entry = fabric.tables.mirrors.entries[Int(place)]
            verdict.tags.append(entry.tag)
            // A packet is told of once, wherever it passes.
            if entry.mirror.target.isRecord,
                isDetour || recorded.contains(place)
                    || verdict.copies.contains(where: { $0.mirror == entry.mirror.path })
            {
                continue
            }
            if let program = entry.program {
                let place = FilterPlace(inPort: inPort, outPort: inPort == index ? -1 : index, device: device)
                guard anyHolds(program.view, place) else { continue }
            }
            guard let destination = destination(of: entry) else { continue }
            if isTracing {
                let what = entry.mirror.target.isRecord ? "recorded for" : "copied to"
                let sample = entry.mirror.effectiveSample
                note(
                    "mirror", Int(index),
                    "\(what) \(entry.mirror.target) by mirror \(entry.mirror.path)\(sample > 1 ? ", one of \(sample)" : "")"
                )
            }
            verdict.copies.append(
                MirrorCopy(
                    destination: destination, header: headerNow(), mirror: entry.mirror.path,
                    length: entry.mirror.length ?? 0, isLimited: entry.mirror.limit != nil,
                    sample: entry.mirror.effectiveSample, ingress: ingress))
        }
    }

    /// Where a mirror's copies go; nowhere while its target is not there, so that it costs nothing then.
    private mutating func destination(of entry: MirrorTable.Entry) -> MirrorCopy.Destination? {
        if entry.target < 0 { return .outside(entry.mirror.target) }
        let port = fabric.ports[Int(entry.target)]
        verdict.tags.append(port.tag)
        // By a service's port it would come back as somebody's traffic.
        guard port.isEnabled, !port.isService else { return nil }
        guard isReached(port) else { return nil }
        return .port(
            port.attachment == .local
                ? .local(PortIndex(entry.target)) : .remote(HostIndex(port.host), key: port.tunnelKey))
    }

    /// Whether what is sent to a machine's port arrives at its interface, as far as is known.
    mutating func isReached(_ port: PortRecord) -> Bool {
        switch port.attachment {
        case .none, .peer: return false
        case .local: return true
        case .remote:
            guard port.host >= 0 else { return false }
            let host = fabric.hosts[Int(port.host)]
            verdict.tags.append(host.tag)
            verdict.tags.append(.path(host: host.tag))
            return host.isReachable && state.canReach(host.tag)
        }
    }
}
