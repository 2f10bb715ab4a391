// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Topology
import Wire

/// A frame as it comes out of the virtual network, or why it does not.
struct Carried {
    /// The port that it came out of, or the host that it was sent to with the port there.
    var place: String?
    var frame: [UInt8] = []
    var drop: DropReason?
    var verdict: Verdict

    var key: FlowKey { parse(frame) }
    /// Who talks to whom, as tools write it.
    var talk: String { drop.map(\.rawValue) ?? Carried.talk(frame) }

    static func talk(_ frame: [UInt8]) -> String {
        let key = parse(frame)
        let hasPorts = [IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp].contains(key.ipProtocol)
        func name(_ address: IPAddress, _ port: UInt16) -> String {
            hasPorts && key.ipFragment != FragmentKind.later
                ? address.family == .ipv6 ? "[\(address)]:\(port)" : "\(address):\(port)" : "\(address)"
        }
        return "\(name(key.ipSource, key.sourcePort)) > \(name(key.ipDestination, key.destinationPort))"
    }
}

extension Host {
    /// Takes a frame through the virtual network as an agent does: what it taught is kept, what devices made goes on its way,
    /// and the frame comes out with what flows write.
    ///
    /// - Parameter learns: whether what it teaches is kept.
    func carry(_ frame: [UInt8], at name: String, learns: Bool = true) -> Carried {
        let verdict = send(frame, at: name)
        if learns { for learned in verdict.learned { state.learn(learned) } }
        return carried(frame, verdict)
    }

    /// What devices made of a packet, out of the ports where it ended.
    func answers(_ verdict: Verdict) -> [Carried] {
        verdict.packets.filter { $0.kind != .request }.map { packet in
            var simulator = Simulator(fabric: fabric, state: state)
            packet.frame.withUnsafeBytes { bytes in
                var layout = PacketLayout()
                let key = FlowKey(parsing: bytes.bytes, layout: &layout)
                simulator.simulateGenerated(
                    SimulatedPacket(key: key, layout: layout, bytes: bytes.bytes, length: layout.networkLength),
                    leaving: packet.port, isRouted: packet.isRouted, answers: packet.answers,
                    isService: packet.isService)
            }
            return carried(packet.frame, simulator.verdict)
        }
    }

    private func carried(_ frame: [UInt8], _ verdict: Verdict) -> Carried {
        guard let output = verdict.outputs.first else { return Carried(drop: verdict.drop, verdict: verdict) }
        let frame = verdict.frame(frame, leavingAs: output.header)
        return Carried(place: outputs(verdict).first, frame: frame, verdict: verdict)
    }

    /// A frame of a machine to the next hop of its network.
    func packet(
        _ protocolNumber: UInt8, _ from: String, _ source: String, _ sourcePort: UInt16, _ destination: String,
        _ destinationPort: UInt16, via gateway: String, flags: UInt8 = 0x02
    ) -> [UInt8] {
        let from = PortPath(from).flatMap { fabric.topology.ports[$0]?.mac } ?? .zero
        if protocolNumber == IPProtocol.tcp {
            return Frame.tcp(
                etherSource: from, etherDestination: mac(gateway), source: address(source),
                destination: address(destination), sourcePort: sourcePort, destinationPort: destinationPort,
                sequence: 1, acknowledgement: 0, flags: flags)
        }
        return Frame.udp(
            etherSource: from, etherDestination: mac(gateway), source: address(source),
            destination: address(destination), sourcePort: sourcePort, destinationPort: destinationPort,
            data: [1, 2, 3, 4, 5, 6, 7, 8])
    }
}

/// What is wrong with the checksums of an IPv4 frame, of what it quotes as well.
func checksumFaults(_ frame: [UInt8]) -> [String] {
    var layout = PacketLayout()
    let key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
    if key.etherType == EtherType.ipv6 {
        let transport = Array(frame[Int(layout.transport)...])
        var sum = InternetChecksum.pseudoHeader(
            source: key.ipSource, destination: key.ipDestination, ipProtocol: key.ipProtocol, length: transport.count)
        transport.withUnsafeBytes { sum.add($0) }
        return sum.value == 0 ? [] : ["outer transport"]
    }
    guard key.etherType == EtherType.ipv4 else { return ["not IP"] }
    var faults: [String] = []
    func check(_ bytes: ArraySlice<UInt8>, _ what: String, isWhole: Bool = true) {
        let bytes = Array(bytes)
        let header = Int(bytes[0] & 0xf) * 4
        if sum(Array(bytes[..<header])) != 0 { faults.append("\(what) header") }
        let length = Int(bytes[2]) << 8 | Int(bytes[3])
        guard bytes.count >= length, Int(bytes[6] & 0x3f) << 8 | Int(bytes[7]) == 0 else { return }
        let transport = Array(bytes[header..<length])
        switch bytes[9] {
        case IPProtocol.tcp, IPProtocol.udp:
            if bytes[9] == IPProtocol.udp, transport[6] == 0, transport[7] == 0 { return }
            let pseudo =
                Array(bytes[12..<20]) + [0, bytes[9], UInt8(transport.count >> 8), UInt8(transport.count & 255)]
            if sum(pseudo + transport) != 0 { faults.append("\(what) transport") }
        case IPProtocol.icmp:
            if sum(transport) != 0 { faults.append("\(what) ICMP") }
            if [3, 4, 5, 11, 12].contains(transport[0]) { check(transport[8...], "quoted") }
        default: break
        }
    }
    check(frame[Int(layout.network)...], "outer")
    return faults
}

private func sum(_ bytes: [UInt8]) -> UInt16 { bytes.withUnsafeBytes { InternetChecksum.of($0) } }
