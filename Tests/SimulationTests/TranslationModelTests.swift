// SPDX-License-Identifier: Apache-2.0
import Foundation
import Manifest
import Simulation
import Synchronization
import TestSupport
import Testing
import Topology
import Wire

/// Random routers that translate and filter, random packets, answers and errors: the simulation and the model agree, and so
/// do the flows that come of it. A case that fails is made small and printed as a manifest with commands that trace it.
@Suite struct TranslationModelTests {
    /// More cases than a run of all tests has time for: `SELVAGE_CASES=1000000`.
    private static let cases = ProcessInfo.processInfo.environment["SELVAGE_CASES"].flatMap { Int($0) } ?? 30_000

    private typealias Case = TranslationCase
    private typealias Step = TranslationCase.Step

    // MARK: - Running cases

    /// What went out, for answers and errors.
    private struct Sent {
        var network: String
        var frame: [UInt8]
        var source: Step
    }

    private func machine(_ address: IPAddress) -> String? {
        TranslationRoom.machines.first { $0.address == "\(address)" }?.port
    }

    private func frame(_ step: Step, _ sent: [Int: Sent], _ host: Host, _ room: TranslationRoom) -> (
        frame: [UInt8], port: String
    )? {
        // Machines answer their neighbors past the router, and may ask them so.
        func via(_ port: String, _ destination: IPAddress, _ isNeighborly: Bool = true) -> MACAddress {
            let machine = machine(destination)
            guard isNeighborly, let machine, machine != port, network(machine) == network(port) else {
                return host.mac(room.gateway(network(port)))
            }
            return host.mac(machine)
        }
        func make(
            _ port: String, _ source: IPAddress, _ destination: IPAddress, _ ports: (UInt16, UInt16), _ type: UInt8,
            _ flags: UInt8
        ) -> [UInt8] {
            let mac = host.mac(port)
            let via = via(port, destination, step.isNeighborly)
            switch step.ipProtocol {
            case 6:
                return Frame.tcp(
                    etherSource: mac, etherDestination: via, source: source, destination: destination,
                    sourcePort: ports.0, destinationPort: ports.1, flags: flags)
            case 17:
                return Frame.udp(
                    etherSource: mac, etherDestination: via, source: source, destination: destination,
                    sourcePort: ports.0, destinationPort: ports.1, data: [1, 2, 3])
            case 1:
                let id = type == 8 ? ports.0 : ports.1
                return Frame.icmp(
                    etherSource: mac, etherDestination: via, source: source, destination: destination,
                    type: type, code: 0, rest: UInt32(id) << 16, data: [1, 2, 3])
            default:
                return Frame.ip(
                    etherSource: mac, etherDestination: via, source: source, destination: destination,
                    ipProtocol: step.ipProtocol, payload: [0, 0, 0, 0, 0, 0, 0, 0])
            }
        }
        switch step.kind {
        case .fresh:
            guard let port = machine(step.source) else { return nil }
            return (
                make(port, step.source, step.destination, (step.sourcePort, step.destinationPort), 8, step.flags), port
            )
        case .reply(let number):
            guard let before = sent[number] else { return nil }
            let key = parse(before.frame)
            var step = step
            step.ipProtocol = key.ipProtocol
            let port = machine(key.ipDestination) ?? "t/out/far"
            let mac = host.mac(port)
            switch key.ipProtocol {
            case 6:
                return (
                    Frame.tcp(
                        etherSource: mac, etherDestination: via(port, key.ipSource), source: key.ipDestination,
                        destination: key.ipSource,
                        sourcePort: key.destinationPort, destinationPort: key.sourcePort, flags: 0x12), port
                )
            case 17:
                return (
                    Frame.udp(
                        etherSource: mac, etherDestination: via(port, key.ipSource), source: key.ipDestination,
                        destination: key.ipSource,
                        sourcePort: key.destinationPort, destinationPort: key.sourcePort, data: [1, 2, 3]), port
                )
            case 1:
                let id = UInt32(before.frame[38]) << 8 | UInt32(before.frame[39])
                guard key.sourcePort == 8 || key.sourcePort == 0 else { return nil }
                return (
                    Frame.icmp(
                        etherSource: mac, etherDestination: via(port, key.ipSource), source: key.ipDestination,
                        destination: key.ipSource,
                        type: key.sourcePort == 8 ? 0 : 8, code: 0, rest: id << 16, data: [1, 2, 3]), port
                )
            default:
                return (
                    Frame.ip(
                        etherSource: mac, etherDestination: via(port, key.ipSource), source: key.ipDestination,
                        destination: key.ipSource,
                        ipProtocol: key.ipProtocol, payload: [0, 0, 0, 0, 0, 0, 0, 0]), port
                )
            }
        case .error(let number):
            guard let before = sent[number] else { return nil }
            let key = parse(before.frame)
            guard key.ipProtocol != 1 || key.sourcePort == 8 || key.sourcePort == 0 else { return nil }
            let port = machine(key.ipDestination) ?? "t/out/far"
            return (
                Frame.icmp(
                    etherSource: host.mac(port), etherDestination: via(port, key.ipSource),
                    source: machine(key.ipDestination) == nil ? address("203.0.113.254") : key.ipDestination,
                    destination: key.ipSource, type: 3, code: 1, data: Array(before.frame[14...].prefix(60))), port
            )
        }
    }

    /// What a frame says to a translator.
    private func tuple(_ frame: [UInt8], at network: Int = 14) -> ConnectionTuple {
        let key = parse(Array(frame[..<14]) + Array(frame[network...]))
        var tuple = ConnectionTuple(
            source: key.ipSource, destination: key.ipDestination, sourcePort: 0, destinationPort: 0,
            ipProtocol: key.ipProtocol)
        if key.ipProtocol == 6 || key.ipProtocol == 17 {
            (tuple.sourcePort, tuple.destinationPort) = (key.sourcePort, key.destinationPort)
        } else if key.ipProtocol == 1 {
            let id = UInt16(frame[network + 24]) << 8 | UInt16(frame[network + 25])
            if key.sourcePort == 8 {
                (tuple.sourcePort, tuple.destinationPort) = (id, 0x8008)
            } else if key.sourcePort == 0 {
                (tuple.sourcePort, tuple.destinationPort) = (0x8008, id)
            }
        }
        return tuple
    }

    private func network(_ place: String?) -> String { place.map { String($0.split(separator: "/")[1]) } ?? "" }

    /// Runs a case to its first disagreement.
    ///
    /// - Parameter count: counts packets that were compared, and flows.
    private func run(_ one: Case, _ random: inout SeededRandom, _ count: inout (packets: Int, flows: Int)) -> (
        step: Step, text: String, frame: [UInt8], port: String
    )? {
        let host = Host(topology: one.topology, state: TableState())
        for plan in one.room.routers {
            let links = plan.links.map { PortPath(device: plan.path, name: $0.port) }
            let own = links.compactMap { one.topology.ports[$0]?.addresses.first?.address }
            for address in own + [plan.own(5), plan.own(6)] {
                host.state.lease(plan.path.description, address, [32, 50, 51])
            }
        }
        // Whatever address of the outer network nobody has is behind one machine.
        let out = Simulation.Tag.port(PortPath(device: one.room.routers[one.room.routers.count - 1].path, name: "out"))
        for name in [
            "203.0.113.10", "203.0.113.5", "203.0.113.6", "203.0.113.20", "203.0.113.21", "203.0.113.30",
        ] {
            host.state.set(.at(host.mac("t/out/far")), address(name), port: out)
        }
        let members = one.topology.pools.values.flatMap(\.members).filter { one.ill.contains($0.name) }
        host.state.ill.withLock { $0 = Set(members.map(\.identity)) }
        var walk = TranslationWalk(one.topology, one.room, ill: one.ill)
        var sent: [Int: Sent] = [:]
        var decided: [(mask: FlowMask, key: FlowKey, port: String, effect: String, count: Int)] = []
        for step in one.steps {
            guard let (frame, port) = frame(step, sent, host, one.room) else { continue }
            let key = parse(frame)
            let from = network(port)
            let isNeighborly = key.etherDestination != host.mac(one.room.gateway(from))
            count.packets += 1
            let carried = host.carry(frame, at: port)
            func fault(_ text: String) -> (Step, String, [UInt8], String) {
                (
                    step,
                    "\(text)\n\(carried.verdict.trace.map { "\($0.stage) \($0.object) \($0.text)" }.joined(separator: "\n"))",
                    frame, port
                )
            }
            if let sentFrame = carried.place.map({ _ in carried.frame }) {
                let faults = checksumFaults(sentFrame)
                if !faults.isEmpty { return fault("checksums: \(faults)") }
            }
            let found: String
            let wanted: String
            if case .error = step.kind {
                let (result, outer) = walk.error(
                    key, quoting: tuple(frame, at: 42), from: from, isNeighborly: isNeighborly)
                found =
                    carried.place.map { _ in
                        "\(network(carried.place)) \(carried.talk) quoting \(tuple(carried.frame, at: 42))"
                    } ?? (carried.drop == .consumed ? "own" : "dropped")
                switch result {
                case .sent(let out, let tuple):
                    wanted = "\(out) \(tuple.source) > \(tuple.destination) quoting \(outer)"
                case .own: wanted = "own"
                default: wanted = "dropped"
                }
            } else {
                let mayBegin =
                    !(key.ipProtocol == 6 && key.tcpFlags & 4 != 0) && !(key.ipProtocol == 1 && key.sourcePort != 8)
                let out = carried.place.map { _ in tuple(carried.frame) }
                found = out.map { "\(network(carried.place)) \($0)" } ?? (carried.drop == .consumed ? "own" : "dropped")
                let asked = tuple(frame)
                let result =
                    isNeighborly
                    ? walk.between(key, asked, in: from, mayBegin: mayBegin, carried.verdict.translations)
                    : walk.send(key, asked, from: from, mayBegin: mayBegin, carried.verdict.translations)
                switch result {
                case .sent(let network, let tuple): wanted = "\(network) \(tuple)"
                case .own: wanted = "own"
                case .dropped: wanted = "dropped"
                case .masked(let network, let tuple, let addresses, let ports):
                    wanted = "\(network) \(tuple) masked as \(addresses) \(ports), by nobody else"
                }
            }
            if found != wanted { return fault("\(found) (\(carried.talk)), not \(wanted)") }
            if carried.place != nil {
                sent[step.number] = Sent(network: network(carried.place), frame: carried.frame, source: step)
            }
            // Flows: any packet that one holds is decided in the same way, as long as nothing was learned since.
            guard let index = PortPath(port).flatMap({ host.fabric.port($0) }) else { continue }
            let verdict = host.decide(key, at: index)
            guard verdict.isCacheable, !verdict.beginsConnection else { continue }
            count.flows += 1
            let first = effect(verdict, host)
            for _ in 0..<2 {
                let stranger = parse(frameOfStranger(&random, host, one.room))
                var mask = verdict.mask
                mask.include(.etherType)
                mask.include(.ipFragment)
                var other = key
                for word in 7..<16 {
                    other.words[word] =
                        key.words[word] & mask.bits.words[word] | stranger.words[word] & ~mask.bits.words[word]
                }
                let second = effect(host.decide(other, at: index), host)
                if first != second {
                    return fault(
                        "the flow \(verdict.mask.describe(key)) does \(first), its packet \(FlowMask.exact.describe(other)) \(second)"
                    )
                }
            }
            decided.append((verdict.mask, key, port, first, sent.count))
        }
        return nil
    }

    private func frameOfStranger(_ random: inout SeededRandom, _ host: Host, _ room: TranslationRoom) -> [UInt8] {
        var generator = TranslationCases(random: random, rooms: [])
        let step = generator.step(0, room)
        random = generator.random
        return frame(step, [:], host, room)?.frame ?? []
    }

    private func effect(_ verdict: Verdict, _ host: Host) -> String {
        zip(host.outputs(verdict), verdict.outputs).map { name, output in
            let header = verdict.headers[Int(output.header)]
            return name
                + (0..<FlowKey.wordCount).filter { header.written.bits.words[$0] != 0 }
                .map { " \($0):\(header.written.bits.words[$0] & header.key.words[$0])" }.joined()
        }.joined(separator: ", ") + " \(verdict.isCacheable)"
    }

    // MARK: - The test

    /// Takes out of a failing case whatever it fails without.
    private func shrink(_ one: Case, _ seed: UInt64) -> Case {
        var small = one
        func fails(_ candidate: Case) -> Bool {
            guard candidate.topology.problems().isEmpty else { return false }
            var random = SeededRandom(seed: seed)
            var count = (packets: 0, flows: 0)
            return run(candidate, &random, &count) != nil
        }
        var changed = true
        while changed {
            changed = false
            for index in small.steps.indices.reversed() {
                var candidate = small
                candidate.steps.remove(at: index)
                if fails(candidate) { (small, changed) = (candidate, true) }
            }
            for router in small.room.routers.map(\.path) {
                func attempt(_ change: (inout Router) -> Void) {
                    var candidate = small
                    guard var drawn = candidate.topology.routers[router] else { return }
                    change(&drawn)
                    candidate.topology.routers[router] = drawn
                    if candidate.topology != small.topology, fails(candidate) { (small, changed) = (candidate, true) }
                }
                let translation = small.topology.routers[router]?.translation ?? Translation()
                for index in translation.rules.indices.reversed() { attempt { $0.translation.rules.remove(at: index) } }
                for index in translation.floating.indices.reversed() {
                    attempt { $0.translation.floating.remove(at: index) }
                }
                for index in translation.virtual.indices.reversed() {
                    attempt { $0.translation.virtual.remove(at: index) }
                }
                attempt { $0.filters.inbound = nil }
                attempt { $0.filters.outbound = nil }
            }
        }
        return small
    }

    private func packetText(_ step: Step) -> String {
        switch step.ipProtocol {
        case 6, 17:
            "\(step.ipProtocol == 6 ? "tcp" : "udp") \(step.source):\(step.sourcePort) > \(step.destination):\(step.destinationPort)"
        default: "icmp to \(step.destination) from \(step.source)"
        }
    }

    private func describe(_ one: Case, _ seed: UInt64) -> String {
        var random = SeededRandom(seed: seed)
        var count = (packets: 0, flows: 0)
        let failure = run(one, &random, &count)
        let host = Host(topology: one.topology, state: TableState())
        let steps = one.steps.map { step -> String in
            switch step.kind {
            case .fresh:
                let frame = self.frame(step, [:], host, one.room)
                return "selvage trace \(frame?.port ?? "?") '\(packetText(step))'"
            case .reply(let number): return "the answer to what came of \(number)"
            case .error(let number): return "an error about what came of \(number)"
            }
        }
        return "seed \(seed): \(failure?.text ?? "gone")\n"
            + zip(one.steps, steps).map { "\($0.number): \($1)" }.joined(separator: "\n")
            + "\n" + ManifestWriter.write(one.topology)
    }

    @Test func `translation and filters do as the model says, and so do the flows that come of it`() throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let rooms = try (1...3).map { try TranslationRoom(routers: $0) }
        var count = (packets: 0, flows: 0)
        while count.packets < TranslationModelTests.cases {
            var generator = TranslationCases(random: random, rooms: rooms)
            let one = generator.next()
            random = generator.random
            let own = random.next()
            var steps = SeededRandom(seed: own)
            if run(one, &steps, &count) != nil {
                let small = shrink(one, own)
                Issue.record("test seed \(seed)\n\(describe(small, own))")
                return
            }
        }
        #expect(count.flows > count.packets / 10, "\(count)")
    }
}
