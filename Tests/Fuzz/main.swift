// SPDX-License-Identifier: Apache-2.0
import FlowState
// Any bytes into any parser. The first byte chooses which; libFuzzer finds the rest.
import Glibc
import Gossip
import Manifest
import TestSupport
import Topology
import Wire

@testable import Agent
@testable import Datapath
@testable import Netlink
@testable import Simulation

@_silgen_name("LLVMFuzzerRunDriver")
func runDriver(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// A topology to send packets through, made once.
private struct Stage {
    let fabric: Fabric
    let ports: [PortIndex]

    init(_ text: String) {
        // The drawing is a constant of the tests; without it there is nothing to fuzz.
        guard let topology = try? draw(text) else { fatalError("the drawing is wrong") }
        fabric = Fabric(topology, localHost: "h1")
        ports = fabric.localPorts
    }
}

/// A bridge that gives addresses, and a router with a virtual address, so that what comes to them is read as well.
private let services = Drawings.threeNetworks.replacing(
    "  a:\n",
    with: """
          a:
                subnet: [10.0.1.0/24, "fd00:1::/64"]
                ra: true
                multicast: true
                dns: { forward: [203.0.113.1] }
                dhcp:
                  - { range: 10.0.1.100-10.0.1.109, options: ["43 0x01"] }
                  - { subnet: "fd00:1::/64", range: "fd00:1::100-fd00:1::10f", dns: ["fd00:1::53"] }

        """
).replacing(
    "    routers:\n",
    with: """
            pools: { web: { persistence: 60, members: [10.0.1.11, 10.0.1.12] } }
            routers:
              gw:
                links: [{ bridge: a, address: 10.0.1.1/24 }, { bridge: b, address: 10.0.2.1/24 }, { bridge: out, address: 203.0.113.1/24 }]
                vips: [{ address: 203.0.113.10, port: 1-65535, pool: web }, { address: 203.0.113.10, protocol: udp, port: 53, pool: web }]

        """)

private let stages = [Stage(Drawings.routers), Stage(Drawings.vlans), Stage(services)]

private func fuzz(_ kind: UInt8, _ bytes: UnsafeRawBufferPointer) {
    if kind & 8 != 0 { return fuzzStore(kind, Array(bytes)) }
    switch kind % 8 {
    case 0: fuzzFrame(bytes)
    case 1:
        _ = GRE.parse(bytes.bytes)
        _ = VXLAN.parse(bytes.bytes)
    case 2: _ = try? PacketDescription(parsing: String(decoding: bytes, as: UTF8.self))
    case 3:
        if let manifest = try? ManifestReader.read(String(decoding: bytes, as: UTF8.self), file: "fuzz") {
            _ = Fabric(manifest.topology, localHost: "h1")
        }
    case 4:
        let key = KeyCodec.decode(bytes)
        var buffer = MessageBuffer(capacity: 4096)
        KeyCodec.encode(key, shape: key, isMask: false, isTunnel: key.tunnelID != 0, into: &buffer)
        buffer.free()
    case 5:
        NetlinkReader.forEachMessage(bytes) { type, sequence, payload in
            let reader = NetlinkReader(payload, type: type, sequence: sequence)
            _ = RouteNetlink.link(reader)
            _ = reader.reason
        }
    case 6:
        _ = try? GossipFrame.decode(Array(bytes))
        _ = try? BFDPacket(reading: Array(bytes))
        var news: Set<Simulation.Tag> = []
        try? StateTable().merge(Array(bytes), now: 1, &news)
    default:
        let text = String(decoding: bytes, as: UTF8.self)
        _ = IPAddress(text)
        _ = MACAddress(text)
        _ = try? Prefix(parsing: text)
        _ = PortPath(text)
        if let message = DHCPMessage(Array(bytes)) {
            _ = DHCPMessage(message.encoded(message.options.keys.sorted(), largest: 1400))
        }
        _ = (GroupMessage(igmp: Array(bytes)), GroupMessage(mld: Array(bytes)))
        if let query = DNSQuery(Array(bytes)) { _ = (query.answer(code: .refused), query.reverseAddress) }
        if let reply = DNSReply(Array(bytes), to: DNSQuery(id: 0, "a", type: 1)) {
            _ = reply.aged(1, for: DNSQuery(id: 0, "a", type: 1))
        }
        if let message = DHCPv6Message(Array(bytes)) {
            guard DHCPv6Message(message.encoded()) != nil else { fatalError("what was read can't be read again") }
        }
    }
}

/// A frame through parser, rewriter, segmenter and the whole simulation.
private func fuzzFrame(_ bytes: UnsafeRawBufferPointer) {
    guard let selector = bytes.first else { return }
    var frame = Array(bytes.dropFirst())
    var layout = PacketLayout()
    let key = frame.withUnsafeBytes { FlowKey(parsing: $0.bytes, layout: &layout) }
    let stage = stages[Int(selector) % stages.count]
    var simulator = Simulator(fabric: stage.fabric, state: EmptyFlowState())
    simulator.isTracing = selector & 0x80 != 0
    let length = layout.networkLength > 0 ? layout.networkLength : max(0, frame.count - Int(layout.network))
    let port = stage.ports[Int(selector >> 1 & 0x1f) % stage.ports.count]
    frame.withUnsafeBytes { raw in
        simulator.simulate(SimulatedPacket(key: key, layout: layout, bytes: raw.bytes, length: length), at: port)
        for generated in simulator.verdict.packets { precondition(generated.frame.count >= 14) }
        _ = FlowMask.exact.describe(key)
    }
    var value = FlowKey()
    var mask = FlowKey()
    for word in 10...15 { (value.words[word], mask.words[word]) = (0x5a5a_5a5a_5a5a_5a5a, ~0) }
    frame.withUnsafeMutableBytes { raw in
        for partial in [false, true] {
            let rewriter = FrameRewriter(raw, layout: layout, partialChecksum: partial)
            if key.etherType == EtherType.ipv6 { rewriter.setIPv6(value, mask) } else { rewriter.setIPv4(value, mask) }
            rewriter.setPorts(value, mask, ipProtocol: key.ipProtocol)
        }
        var offload = Offload()
        offload.flags = 1
        offload.checksumStart = UInt16(selector) &* 7
        offload.checksumOffset = 16
        _ = Segmenter.completeChecksum(raw, &offload)
        offload.segmentation = selector & 1 == 0 ? 1 : 5
        offload.segmentSize = UInt16(selector) &+ 1
        offload.headerLength = UInt16(truncatingIfNeeded: Int(layout.transport) + 20)
        var out = [UInt8](repeating: 0, count: 2304)
        for index in 0..<min(4, Segmenter.segmentCount(raw, offload)) {
            out.withUnsafeMutableBytes {
                _ = Segmenter.segment(
                    raw, layout: layout, isV6: key.etherType == EtherType.ipv6, offload, index: index, into: $0)
            }
        }
    }
}

var count = CommandLine.argc
var arguments = UnsafeMutablePointer(mutating: CommandLine.unsafeArgv).withMemoryRebound(
    to: UnsafeMutablePointer<CChar>?.self, capacity: Int(count)
) { $0 }
exit(
    runDriver(&count, &arguments) { data, size in
        guard let data, size > 0 else { return 0 }
        fuzz(data[0], UnsafeRawBufferPointer(start: data + 1, count: size - 1))
        return 0
    })
