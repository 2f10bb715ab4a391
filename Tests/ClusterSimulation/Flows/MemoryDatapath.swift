// SPDX-License-Identifier: Apache-2.0
import Datapath
import Wire

/// A datapath in memory: it looks packets up under match and mask, acts on real bytes, and hands up what no flow holds.
final class MemoryDatapath: DatapathThread {
    private struct Entry {
        var flow: Flow
        var statistics = FlowStatistics()
    }
    /// In the order in which they came, so that a life is the same each time it is lived.
    private var entries: [Entry] = []
    /// The tunnel port's number.
    static let tunnelPort: UInt32 = 1000
    var handler: (any UpcallHandler)?
    var now: UInt64 = 0
    /// What leaves by an exterior port, and by the tunnel.
    var onOutput: (_ port: UInt32, _ frame: [UInt8]) -> Void = { _, _ in }
    var onTunnel: (TunnelHeader, _ frame: [UInt8]) -> Void = { _, _ in }

    // MARK: - DatapathThread

    func install(_ flow: borrowing Flow) {
        let id = flow.id
        if let at = entries.firstIndex(where: { $0.flow.id == id }) {
            entries[at].flow = copy flow
        } else {
            entries.append(Entry(flow: copy flow))
        }
    }

    func remove(_ id: FlowID) { entries.removeAll { $0.flow.id == id } }
    func execute(_ actions: [Action], on packet: borrowing UpcallPacket) { run(actions, packet.owned()) }
    func execute(_ actions: [Action], on packet: OwnedPacket) { run(actions, packet) }
    func forEachFlow(_ body: (FlowID, FlowStatistics) -> Void) {
        for entry in entries { body(entry.flow.id, entry.statistics) }
    }

    // MARK: - Packets

    /// What an earlier run of the node left.
    var inherited: [InheritedFlow] {
        entries.map { InheritedFlow(id: $0.flow.id, key: $0.flow.key, statistics: $0.statistics) }
    }
    var count: Int { entries.count }
    func removeAll() { entries.removeAll() }

    /// A frame comes in by a port.
    func process(_ frame: [UInt8], port: UInt32, tunnel: TunnelHeader? = nil) {
        var frame = frame
        var layout = PacketLayout()
        var key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
        key.inPort = port
        if let tunnel {
            key.tunnelID = UInt64(tunnel.id)
            key.tunnelSourceWords = (tunnel.source.high, tunnel.source.low)
            key.tunnelDestinationWords = (tunnel.destination.high, tunnel.destination.low)
        }
        if let at = entries.firstIndex(where: { $0.flow.mask.apply(key) == $0.flow.key }) {
            entries[at].statistics.packets += 1
            entries[at].statistics.bytes += UInt64(frame.count)
            entries[at].statistics.usedNanoseconds = now
            entries[at].statistics.tcpFlags |= key.tcpFlags & 0xff
            return run(entries[at].flow.actions, OwnedPacket(key: key, bytes: frame))
        }
        // A node that does not run answers no upcall.
        guard let handler else { return }
        frame.withUnsafeMutableBytes { bytes in
            let length = layer3Length(layout, frameLength: bytes.count, offload: Offload())
            handler.upcall(
                UpcallPacket(
                    cookie: 0, key: key, layout: layout, bytes: bytes, offload: Offload(), length: length), self)
        }
    }

    private func run(_ actions: [Action], _ packet: OwnedPacket) {
        var frame = packet.bytes
        var tunnel: TunnelHeader?
        for action in actions {
            var layout = PacketLayout()
            _ = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
            switch action {
            case .output(let port):
                if port.value != MemoryDatapath.tunnelPort {
                    onOutput(port.value, frame)
                } else if let tunnel {
                    onTunnel(tunnel, frame)
                }
            case .setTunnel(let header): tunnel = header
            case .sampled: break
            case .metered(_, let nested): run(nested, OwnedPacket(key: packet.key, bytes: frame))
            case .checkLength(_, _, let fits): run(fits, OwnedPacket(key: packet.key, bytes: frame))
            case .setEthernet(let source, let sourceMask, let destination, let destinationMask):
                var (value, mask) = (FlowKey(), FlowKey())
                (value.etherSource, value.etherDestination) = (source, destination)
                mask.etherSource = MACAddress(bits: sourceMask)
                mask.etherDestination = MACAddress(bits: destinationMask)
                rewrite(&frame, layout) { $0.setEthernet(value, mask) }
            case .setIPv4(let value, let mask): rewrite(&frame, layout) { $0.setIPv4(value.key, mask.key) }
            case .setPorts(_, let source, let sourceMask, let destination, let destinationMask):
                var (value, mask) = (FlowKey(), FlowKey())
                (value.sourcePort, value.destinationPort) = (source, destination)
                (mask.sourcePort, mask.destinationPort) = (sourceMask, destinationMask)
                (value.ipProtocol, mask.ipProtocol) = (IPProtocol.tcp, 0xff)
                rewrite(&frame, layout) { $0.setPorts(value, mask, ipProtocol: IPProtocol.tcp) }
            case .setIPv6, .pushVLAN, .popVLAN, .truncate, .userspace:
                preconditionFailure("no drawing here needs \(action)")
            }
        }
    }

    private func rewrite(_ frame: inout [UInt8], _ layout: PacketLayout, _ body: (FrameRewriter) -> Void) {
        frame.withUnsafeMutableBytes { body(FrameRewriter($0, layout: layout, partialChecksum: false)) }
    }
}
