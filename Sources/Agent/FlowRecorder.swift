// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Synchronization
import Topology
import Wire

/// The way that packets of a flow go, as far as who is told of flows wants to know.
public struct RecordedWay: Sendable, Hashable {
    /// The mirror that asks.
    public var mirror: DevicePath
    /// The port where they come in; `nil` of what devices make.
    public var ingress: PortPath?
    /// The port where they go out; `nil` where there is none, or several.
    public var egress: PortPath?
    /// How many copies go out.
    public var copies: UInt32
    /// Why none does.
    public var drop: DropReason?
}

/// Packets of one conversation that went one way.
public struct RecordedFlow: Sendable {
    /// The way.
    public var way: RecordedWay
    /// The header of the first packet that was looked at.
    public var key: FlowKey
    /// Packets that were looked at.
    public var packets: UInt64 = 0
    /// Their layer 3 bytes; of what is no IP from the Ethernet header on.
    public var bytes: UInt64 = 0
    /// The first and the last, milliseconds since 1970.
    public var first: UInt64
    /// See ``first``.
    public var last: UInt64
    /// TCP flags of all together, FIN being bit 0.
    public var tcpFlags: UInt16 = 0
    /// Why it is told of now.
    public var end = End.idle

    /// Why a flow is told of.
    public enum End: UInt8, Sendable {
        /// No packet came for a while (`flowEndReason` of RFC 7012).
        case idle = 1
        /// It goes on, and is told of now and then.
        case active = 2
        /// Nobody looks at it any more.
        case forced = 4
        /// There was no room for it.
        case lackOfRoom = 5
    }
}

/// Makes records of flows of the packets that datapaths hand up.
public final class FlowRecorder: Sendable {
    private struct Name: Hashable {
        var cookie: UInt64
        var words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)
        static func == (a: Name, b: Name) -> Bool { a.cookie == b.cookie && a.words == b.words }
        func hash(into hasher: inout Hasher) {
            hasher.combine(cookie)
            hasher.combine(words.0 ^ words.2)
            hasher.combine(words.1 ^ words.3)
            hasher.combine(words.4)
            hasher.combine(words.5)
        }
    }
    private struct State {
        var ways: [UInt64: (way: RecordedWay, used: UInt64)] = [:]
        var records: [Name: RecordedFlow] = [:]
        /// What there was no room for any more, all at once.
        var full: [[Name: RecordedFlow]] = []
        var lost: UInt64 = 0
        var cleaned: UInt64 = 0
    }
    private let state = Mutex(State())

    /// Records, at most; one more makes all that there are be told of at once.
    static let mostRecords = 65_536
    private static let mostWays = 65_536
    /// Times that records were too many, at most, before they are told of; those beyond are lost.
    private static let mostFull = 4
    /// Ways are looked through so often at most, milliseconds.
    private static let cleaning: UInt64 = 5000
    /// Ways that no packet went for so long are forgotten when there is no room for others, milliseconds.
    private static let wayLifetime: UInt64 = 600_000

    /// Nothing is known yet.
    public init() {}

    /// The cookie under which packets that go a way are handed up: the same on every run. `nil` where there is no room.
    func cookie(of way: RecordedWay, now: UInt64) -> UInt64? {
        let cookie = stableHash(way.name) << 8 | ActionCookies.sampled
        return state.withLock { state in
            if state.ways[cookie] == nil, state.ways.count >= FlowRecorder.mostWays {
                if now &- state.cleaned > FlowRecorder.cleaning {
                    state.cleaned = now
                    state.ways = state.ways.filter { $0.value.used + FlowRecorder.wayLifetime > now }
                }
                if state.ways.count >= FlowRecorder.mostWays {
                    // Where it goes is not told then: there are few such ways.
                    var shorter = way
                    shorter.egress = nil
                    let other = stableHash(shorter.name) << 8 | ActionCookies.sampled
                    guard state.ways[other] != nil || state.ways.count < 2 * FlowRecorder.mostWays else { return nil }
                    state.ways[other] = (shorter, now)
                    return other
                }
            }
            state.ways[cookie] = (way, now)
            return cookie
        }
    }

    /// Takes note of a packet.
    func note(_ packet: borrowing UpcallPacket, now: UInt64) {
        let (packets, bytes) = FlowRecorder.size(packet)
        // What was written on its way so far is in the frame.
        var layout = PacketLayout()
        let key = FlowKey(parsing: UnsafeRawBufferPointer(packet.bytes).bytes, layout: &layout)
        note(key, packets: packets, bytes: bytes, cookie: packet.cookie, now: now)
    }

    /// - Parameter key: of the frame alone.
    func note(_ key: FlowKey, packets: UInt64, bytes: UInt64, cookie: UInt64, now: UInt64) {
        let isIP = key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6
        let kind = UInt64(key.etherType) << 48 | UInt64(key.ipProtocol) << 40 | UInt64(key.ipTOS) << 32
        let name = Name(
            cookie: cookie,
            words: isIP
                ? (
                    key.ipSource.high, key.ipSource.low, key.ipDestination.high, key.ipDestination.low,
                    kind | UInt64(key.vlanTCI & 0x1fff), UInt64(key.sourcePort) << 16 | UInt64(key.destinationPort)
                )
                : (key.etherSource.bits, key.etherDestination.bits, 0, 0, kind | UInt64(key.vlanTCI & 0x1fff), 0))
        state.withLock { state in
            guard let way = state.ways[cookie]?.way else {
                state.lost &+= 1
                return
            }
            state.ways[cookie]?.used = now
            if state.records[name] == nil, state.records.count >= FlowRecorder.mostRecords {
                if state.full.count < FlowRecorder.mostFull {
                    state.full.append(state.records)
                } else {
                    state.lost &+= UInt64(state.records.count)
                }
                state.records = [:]
            }
            state.records[name, default: RecordedFlow(way: way, key: key, first: now, last: now)].add(
                packets, bytes, key.tcpFlags, now)
        }
    }

    /// Records that are due.
    ///
    /// - Parameter times: of a mirror; `nil` where it is gone.
    public func take(now: UInt64, times: (DevicePath) -> Mirror.RecordTimes?) -> [RecordedFlow] {
        let full = state.withLock { state in
            defer { state.full = [] }
            return state.full
        }
        var due = full.flatMap(\.values).map { record in
            var record = record
            record.end = .lackOfRoom
            return record
        }
        var known: [DevicePath: Mirror.RecordTimes?] = [:]
        state.withLock { state in
            var ended: [Name] = []
            for (name, record) in state.records {
                let mirror = record.way.mirror
                let limits = known[mirror] ?? times(mirror)
                known[mirror] = .some(limits)
                guard let end = FlowRecorder.end(record, limits, now) else { continue }
                due.append(record)
                due[due.count - 1].end = end
                ended.append(name)
            }
            for name in ended { state.records[name] = nil }
        }
        return due
    }

    /// Why a record is due, if it is. Clocks may be set back.
    private static func end(_ record: RecordedFlow, _ limits: Mirror.RecordTimes?, _ now: UInt64) -> RecordedFlow.End? {
        guard let limits else { return .forced }
        if record.last + UInt64(limits.idle) * 1000 <= now { return .idle }
        return record.first + UInt64(limits.active) * 1000 <= now ? .active : nil
    }

    /// Packets whose way was unknown, and records that there was no room for.
    public var lost: UInt64 { state.withLock { $0.lost } }

    /// Packets and bytes that a frame stands for: one that is left to be segmented is several.
    private static func size(_ packet: borrowing UpcallPacket) -> (packets: UInt64, bytes: UInt64) {
        let network = Int(packet.layout.network)
        let whole = packet.layout.networkLength > 0 ? packet.layout.networkLength : packet.bytes.count
        let offload = packet.offload
        guard offload.segmentation & 0x7f != 0, offload.segmentSize > 0, packet.bytes.count > Int(offload.headerLength)
        else {
            return (1, UInt64(whole))
        }
        let payload = packet.bytes.count - Int(offload.headerLength)
        let segments = (payload + Int(offload.segmentSize) - 1) / Int(offload.segmentSize)
        let header = max(0, Int(offload.headerLength) - network)
        return (UInt64(segments), UInt64(payload + segments * header))
    }
}

extension RecordedFlow {
    fileprivate mutating func add(_ packets: UInt64, _ bytes: UInt64, _ flags: UInt16, _ now: UInt64) {
        self.packets &+= packets
        self.bytes &+= bytes
        tcpFlags |= flags
        last = max(last, now)
    }
}

extension RecordedWay {
    /// All that it says, in words.
    fileprivate var name: String {
        "\(mirror) \(ingress?.description ?? "") \(egress?.description ?? "") \(copies) \(drop?.rawValue ?? "")"
    }

    /// The way of what a verdict says.
    init(_ verdict: borrowing Verdict, mirror: DevicePath, ingress: PortIndex?, _ fabric: Fabric) {
        var out: PortIndex?
        if verdict.outputs.count == 1 {
            switch verdict.outputs[0].destination {
            case .local(let port): out = port
            case .remote(_, let key): out = fabric.boundPort(ofKey: key)
            }
        }
        self.init(
            mirror: mirror, ingress: ingress.map(fabric.path), egress: out.map(fabric.path),
            copies: UInt32(clamping: verdict.outputs.count), drop: verdict.outputs.isEmpty ? verdict.drop : nil)
    }
}
