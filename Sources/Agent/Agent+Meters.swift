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
    func reconcileMeters(_ control: inout Control) {
        for meter in control.staleMeters { try? datapath.removeMeter(meter) }
        control.staleMeters = []
        var wanted: [MeterUse: MeterSpecification] = [:]
        for path in control.numbers.keys {
            guard let quality = control.topology.ports[path]?.quality, !quality.isEmpty else { continue }
            for (way, limit) in [(Epoch.Way.egress, quality.egress), (.ingress, quality.ingress)] {
                guard let limit else { continue }
                wanted[MeterUse(port: path, way: way)] = MeterSpecification(
                    kilobits: limit.kilobits, burst: limit.effectiveBurst)
            }
        }
        for (use, meter) in control.meters where wanted[use] == nil {
            control.staleMeters.append(meter.number)
            control.meters[use] = nil
        }
        var taken = Set(control.meters.values.map(\.number)).union(control.staleMeters)
        for (use, specification) in wanted.sorted(by: {
            ($0.key.port, $0.key.way.rawValue) < ($1.key.port, $1.key.way.rawValue)
        }) {
            if control.meters[use]?.specification == specification { continue }
            var number = control.meters[use]?.number
            if number == nil {
                // The same after a restart, as far as it goes: flows of the earlier run have it.
                var place =
                    UInt32(truncatingIfNeeded: stableHash("meter \(use.port) \(use.way.rawValue)")) % MeterNumber.most
                while taken.contains(MeterNumber(place)) { place = (place + 1) % MeterNumber.most }
                number = MeterNumber(place)
            }
            guard let number else { continue }
            do {
                try datapath.setMeter(number, specification)
                control.meters[use] = Meter(number: number, specification: specification)
                control.meterProblem = nil
                taken.insert(number)
            } catch { control.meterProblem = "\(use.port): its limits are not kept: \(error)" }
        }
    }
}
