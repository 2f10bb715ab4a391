// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Topology
import Wire

/// How much machines here may send and get is measured by meters of the datapath.
extension Agent {
    /// A meter, and what it was told.
    struct Meter {
        var number: MeterNumber
        var specification: MeterSpecification
    }

    /// Makes meters what ports that are bound here ask for, before flows that use them are installed. Those that nothing asks
    /// for go the next time, when no flow uses them any more.
    ///
    /// - Returns: tags of the ports whose meters came or went.
    func reconcileMeters(_ control: inout Control) -> Set<Tag> {
        for meter in control.staleMeters { try? datapath.removeMeter(meter) }
        control.staleMeters = []
        control.meterProblem = nil
        var wanted: [MeterUse: MeterSpecification] = [:]
        for path in control.numbers.keys {
            guard let quality = control.topology.ports[path]?.quality, !quality.isEmpty else { continue }
            for (way, limit) in [(Epoch.Way.egress, quality.egress), (.ingress, quality.ingress)] {
                guard let limit else { continue }
                wanted[.port(path, way)] = MeterSpecification(
                    kilobits: limit.kilobits, burst: limit.effectiveBurst)
            }
        }
        for mirror in control.topology.mirrors.values where mirror.isEnabled {
            if let limit = mirror.limit {
                wanted[.mirror(mirror.path)] = MeterSpecification(
                    kilobits: limit.kilobits, burst: limit.effectiveBurst)
            }
        }
        var changed: Set<Tag> = []
        for (use, meter) in control.meters where wanted[use] == nil {
            control.staleMeters.append(meter.number)
            control.meters[use] = nil
            changed.formUnion(use.tags)
        }
        // The kernel keeps meters by their number's place in a small table: numbers must lie close together. What an earlier run
        // left is overwritten as they are used.
        var taken = Set(control.meters.values.map(\.number)).union(control.staleMeters)
        var next: UInt32 = 1
        for (use, specification) in wanted where control.meters[use]?.specification != specification {
            while taken.contains(MeterNumber(next)) { next += 1 }
            let number = control.meters[use]?.number ?? MeterNumber(next)
            do {
                try datapath.setMeter(number, specification)
                if control.meters[use] == nil { changed.formUnion(use.tags) }
                control.meters[use] = Meter(number: number, specification: specification)
                taken.insert(number)
            } catch { control.meterProblem = "\(use): its limits are not kept: \(error)" }
        }
        return changed
    }
}

/// What a meter of the datapath is for.
package enum MeterUse: Hashable, Sendable, CustomStringConvertible {
    /// What a port's machine sends, or gets.
    case port(PortPath, Epoch.Way)
    /// Copies of a mirror.
    case mirror(DevicePath)

    package var description: String {
        switch self {
        case .port(let path, _): path.description
        case .mirror(let path): "mirror \(path)"
        }
    }

    /// Tags of the flows that use it.
    fileprivate var tags: Set<Tag> {
        switch self {
        case .port(let path, _): [.port(path)]
        case .mirror(let path): [.mirror(path)]
        }
    }
}
