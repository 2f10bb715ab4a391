// SPDX-License-Identifier: Apache-2.0
import API
import Agent
import Datapath
import Simulation
import Topology
import Wire

/// Answers "why did this packet go there": a described packet through the very simulation that forwards.
struct Tracer {
    let agent: Agent

    func trace(port portText: String, packet packetText: String) -> NodeResponse {
        let topology = agent.topology
        guard let path = PortPath(portText), let port = topology.ports[path] else {
            return .failure("\(portText): no such port; selvage topology lists them")
        }
        guard case .exterior(let host, _) = port.attachment else {
            return .failure(
                "\(path): packets begin at ports of machines; this one is \(port.attachment == .none ? "not attached" : "inside the network")"
            )
        }
        guard host == agent.host else {
            return .failure("\(path): is on host \(host); ask the node there")
        }
        if packetText.hasPrefix("frame ") {
            guard let frame = Tracer.bytes(packetText.dropFirst("frame ".count)) else {
                return .failure(
                    "\(path): no frame: write \(Tracer.lengths.lowerBound) to \(Tracer.lengths.upperBound) bytes in hexadecimal"
                )
            }
            return trace(frame, path, topology)
        }
        let description: PacketDescription
        do {
            description = try PacketDescription(parsing: packetText)
        } catch {
            return .failure(error.description)
        }
        guard let source = description.source ?? sourceAddress(of: port, for: description.destination) else {
            return .failure("\(path): its address is not declared; say \"from ADDRESS\"")
        }
        let frame = description.frame(
            etherSource: description.etherSource ?? port.mac,
            etherDestination: description.etherDestination
                ?? nextHopMAC(of: port, for: description.destination, topology),
            source: source)
        return trace(frame, path, topology)
    }

    private func trace(_ frame: [UInt8], _ path: PortPath, _ topology: Topology) -> NodeResponse {
        guard let verdict = agent.trace(frame, at: path) else {
            return .failure("\(path): not in the topology that is in force")
        }
        return .trace(answer(verdict, frame, path, topology))
    }

    private static let lengths = 14...9216

    /// Bytes in hexadecimal, with or without spaces or colons.
    private static func bytes(_ text: some StringProtocol) -> [UInt8]? {
        let digits = text.filter { $0 != " " && $0 != ":" }.compactMap(\.hexDigitValue)
        guard digits.count == text.count(where: { $0 != " " && $0 != ":" }), digits.count % 2 == 0,
            lengths.contains(digits.count / 2)
        else { return nil }
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }

    private func sourceAddress(of port: Port, for destination: IPAddress) -> IPAddress? {
        let own = port.addresses.map(\.address).filter { $0.family == destination.family }
        return port.addresses.first { $0.network.contains(destination) }?.address ?? own.first
    }

    /// The MAC that the machine would send to: its neighbor's, or its gateway's.
    private func nextHopMAC(of port: Port, for destination: IPAddress, _ topology: Topology) -> MACAddress {
        let segment = topology.ports(of: port.path.device)
        func owner(_ address: IPAddress) -> MACAddress? {
            for candidate in segment {
                if case .peer(let other) = candidate.attachment, let far = topology.ports[other],
                    far.kind == .router,
                    far.addresses.contains(where: { $0.address == address })
                        || far.addresses.contains(where: { $0.network.contains(address) })
                            && topology.routers[far.path.device]?.translation.answered.contains(address) == true
                {
                    return far.mac
                }
                if candidate.addresses.contains(where: { $0.address == address }) { return candidate.mac }
            }
            return nil
        }
        // What a machine sends to all or to a group it sends to their MAC.
        if let group = destination.v4 {
            let isBroadcast =
                group.bits == .max
                || port.addresses.contains { own in
                    guard let network = own.network.address.v4, own.network.length < 31 else { return false }
                    return group.bits == network.bits | UInt32.max >> UInt32(own.network.length)
                }
            if isBroadcast { return .broadcast }
            if destination.isMulticast { return .multicast(for: group) }
        }
        if let group = destination.v6, destination.isMulticast { return .multicast(for: group) }
        if let direct = owner(destination) { return direct }
        for candidate in segment {
            if case .peer(let other) = candidate.attachment, let far = topology.ports[other], far.kind == .router,
                far.addresses.contains(where: { $0.address.family == destination.family })
            {
                let isOnLink = far.addresses.contains { $0.network.contains(destination) }
                if !isOnLink { return far.mac }
            }
        }
        return Port.derivedMAC(for: PortPath(device: port.path.device, name: "unknown"))
    }

    private func answer(_ verdict: Verdict, _ frame: [UInt8], _ path: PortPath, _ topology: Topology) -> TraceAnswer {
        var layout = PacketLayout()
        let key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
        let outcome: String
        if !verdict.outputs.isEmpty {
            outcome = verdict.outputs.count == 1 ? "forward" : "forward, \(verdict.outputs.count) copies"
        } else if let wait = verdict.wait {
            outcome = "wait for the MAC of \(wait.address)"
        } else if let drop = verdict.drop, drop != .consumed {
            outcome = "drop: \(drop.rawValue)" + (verdict.packets.isEmpty ? "" : ", and tell the sender")
        } else {
            outcome = verdict.packets.isEmpty ? "consumed" : "answered"
        }
        let installed = agent.flows().first { $0.ingress == path.description && matches($0, key) }
        let flow: String
        if let installed {
            flow =
                "installed \(seconds(installed.ageNanoseconds)) ago, \(installed.statistics.packets) packets, "
                + "\(installed.statistics.bytes) bytes"
        } else {
            flow =
                verdict.isCacheable
                ? "none yet: the first such packet installs it" : "none: each such packet is decided by itself"
        }
        return TraceAnswer(
            host: agent.host, revision: topology.revision,
            steps: verdict.trace.map { [$0.stage, $0.object, $0.text] }, verdict: outcome,
            match: verdict.mask.describe(key).map { [$0.field, $0.value] }, flow: flow,
            egress: egress(verdict, topology), detours: detours(verdict, frame))
    }

    private func detours(_ verdict: Verdict, _ frame: [UInt8]) -> [TraceDetour] {
        verdict.detours.map { detour in
            let bytes = verdict.frame(frame, leavingAs: detour.header)
            return TraceDetour(
                port: detour.back.description,
                frame: bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())
        }
    }

    private func matches(_ flow: FlowReport, _ key: FlowKey) -> Bool {
        for word in 7..<FlowKey.wordCount
        where (key.words[word] ^ flow.key.words[word]) & flow.mask.bits.words[word] != 0 {
            return false
        }
        return true
    }

    private func egress(_ verdict: Verdict, _ topology: Topology) -> [String] {
        let fabric = Fabric(topology, localHost: agent.host)
        return verdict.outputs.map { output in
            switch output.destination {
            case .local: agent.host
            case .remote(let host, _): fabric.name(host)
            }
        }
    }

    private func seconds(_ nanoseconds: UInt64) -> String { "\(nanoseconds / 1_000_000_000) s" }
}
