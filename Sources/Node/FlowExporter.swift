// SPDX-License-Identifier: Apache-2.0
import Agent
import CLinux
import Glibc
import Linux
import Simulation
import Store
import Synchronization
import Topology
import Wire

/// Tells collectors outside of flows, by IPFIX over UDP, as mirrors say.
final class FlowExporter: Sendable {
    private unowned let node: Node
    private struct State {
        var exporters: [DevicePath: (target: Mirror.Target, exporter: IPFIX.Exporter)] = [:]
        var socket: (descriptor: Descriptor, family: Int32)?
        var told: UInt64 = 0
        var messages: UInt64 = 0
    }
    private let state = Mutex(State())
    private static let interval = Duration.seconds(1)
    private static let bufferSize: Int32 = 1 << 20

    init(_ node: Node) { self.node = node }

    func run() async {
        while !Task.isCancelled {
            tell()
            try? await Task.sleep(for: FlowExporter.interval)
        }
        tell(isLast: true)
    }

    /// Flows that were told of, and messages.
    var counters: (flows: UInt64, messages: UInt64) { state.withLock { ($0.told, $0.messages) } }

    /// Tells of what is due; at last of all there is.
    private func tell(isLast: Bool = false) {
        let topology = node.agent.topology
        let records = node.agent.recorder.take(now: wallMilliseconds()) { mirror in
            guard !isLast, let known = topology.mirrors[mirror], known.isEnabled, known.target.isRecord else {
                return nil
            }
            return known.times
        }
        var byMirror = Dictionary(grouping: records, by: \.way.mirror)
        let problem = state.withLock { state in
            var problem: String?
            // Of what nobody asks for any more who asked before is told.
            for (path, last) in state.exporters {
                let mirror = topology.mirrors[path]
                if mirror?.isEnabled == true, mirror?.target == last.target { continue }
                let flows = (byMirror[path] ?? []).map { FlowExporter.flow($0, topology) }
                tell(flows, path, last.target, &state, &problem)
                state.exporters[path] = nil
                byMirror[path] = nil
            }
            for mirror in topology.mirrors.values where mirror.isEnabled {
                guard case .ipfix(let address, let port) = mirror.target else { continue }
                let flows = (byMirror[mirror.path] ?? []).map { FlowExporter.flow($0, topology) }
                if flows.isEmpty, state.exporters[mirror.path] == nil { continue }
                if state.exporters[mirror.path]?.target != mirror.target {
                    let domain = UInt32(truncatingIfNeeded: stableHash("\(mirror.path)")) | 1
                    state.exporters[mirror.path] = (
                        mirror.target,
                        IPFIX.Exporter(domain: domain, name: "\(mirror.path)", sample: mirror.effectiveSample)
                    )
                }
                state.exporters[mirror.path]?.exporter.sample = mirror.effectiveSample
                tell(flows, mirror.path, .ipfix(address, port: port), &state, &problem)
            }
            return problem
        }
        node.replica.alarm("records", problem)
    }

    private func tell(
        _ flows: [IPFIX.Flow], _ mirror: DevicePath, _ target: Mirror.Target, _ state: inout State,
        _ problem: inout String?
    ) {
        guard case .ipfix(let address, let port) = target,
            let messages = state.exporters[mirror]?.exporter.messages(flows, now: UInt64(wallSeconds()))
        else { return }
        do {
            for message in messages { try send(message, address, port, &state) }
            state.told &+= UInt64(flows.count)
            state.messages &+= UInt64(messages.count)
        } catch { problem = "mirror \(mirror): \(error)" }
    }

    private func send(_ message: [UInt8], _ address: IPAddress, _ port: UInt16, _ state: inout State) throws {
        if state.socket == nil {
            var family: Int32 = 0
            let number = try SystemError.check(
                cl_datagram_socket(0, FlowExporter.bufferSize, &family), "open a socket for flow records")
            state.socket = (Descriptor(number), family)
        }
        guard let socket = state.socket else { return }
        var storage = [UInt8](repeating: 0, count: Int(CL_ADDRESS_SIZE))
        let length = try SystemError.check(
            cl_resolve("\(address)", port, socket.family, &storage), "send flow records to \(address)")
        let sent = storage.withUnsafeBytes { storage -> Int in
            guard let base = storage.baseAddress else { return -1 }
            return sendto(
                socket.descriptor.number, message, message.count, Int32(MSG_DONTWAIT),
                base.assumingMemoryBound(to: sockaddr.self), socklen_t(length))
        }
        // Who does not listen is no fault of ours, and what finds no room is lost as datagrams are.
        if sent < 0, errno != ECONNREFUSED, errno != EAGAIN, errno != ENOBUFS {
            throw SystemError(errno, "send flow records to \(address) port \(port)")
        }
    }

    private static func flow(_ record: RecordedFlow, _ topology: Topology) -> IPFIX.Flow {
        var flow = IPFIX.Flow(key: record.key)
        (flow.start, flow.end) = (record.first, record.last)
        (flow.packets, flow.bytes, flow.tcpFlags) = (record.packets, record.bytes, record.tcpFlags)
        flow.tenant = record.way.mirror.tenant
        if let port = record.way.ingress {
            flow.ingress = topology.ports[port]?.tunnelKey ?? 0
            flow.ingressName = "\(port)"
        }
        if let port = record.way.egress {
            flow.egress = topology.ports[port]?.tunnelKey ?? 0
            flow.egressName = "\(port)"
        }
        flow.status = status(record.way)
        flow.reason = record.end.rawValue
        return flow
    }

    /// `forwardingStatus` (RFC 7270 section 4.12).
    private static func status(_ way: RecordedWay) -> UInt8 {
        if way.copies > 0 { return 64 }
        switch way.drop {
        case .consumed: return 192
        case .filterRejected: return 129
        case .filtered, .spoofedMAC, .rogueServer: return 130
        case .noRoute, .blackhole, .rejected, .noTunnel: return 131
        case .neighborUnreachable: return 132
        case .tooBig: return 133
        case .malformed: return 136
        case .ttlExceeded: return 137
        case .spoofedAddress: return 140
        case nil: return 194
        default: return 128
        }
    }
}
