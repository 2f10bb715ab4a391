// SPDX-License-Identifier: Apache-2.0
import Datapath
import Gossip
import Linux
import Netlink
import Synchronization
import Topology
import Wire

/// A frame to send, and how.
package struct Probe: Sendable {
    var frame: [UInt8]
    var actions: [Action]
}

/// Finds out whether the tunnels to the other hosts work: by BFD packets (RFC 5880, in UDP as RFC 5881 has it) that go through
/// the tunnels themselves under a key of their own, so that what is seen to work is the way that tenants' packets take. Where the
/// underlay shares flows among several, it is one of them.
package final class PathProber: Sendable {
    private struct Target: Sendable {
        var host: String
        var port: PortNumber
    }
    private struct State {
        var monitor: PathMonitor<TunnelPath>
        var targets: [TunnelPath: Target] = [:]
        var choice = PathChoice()
        var down: Set<TunnelPath> = []
        /// Numbers what was found out.
        var settled: UInt64 = 0
        var isStopping = false
    }

    private let state: Mutex<State>
    /// Number of the latest news that were told.
    private let told = Mutex<UInt64>(0)
    private let alarm: Alarm
    /// Has probes sent.
    private let send: @Sendable ([Probe]) -> Void
    private let changed: @Sendable (News) -> Void
    /// Ways that packets do not take, as of now.
    let avoided = AvoidedPaths()

    /// What probes found out.
    struct News: Sendable {
        /// The later, the higher: two threads may tell at once.
        var number: UInt64
        /// Whether nothing later was told: what was found earlier changes flows, and no more than that.
        var isLatest = true
        /// Hosts that no longer answer by any way, all of them.
        var dead: Set<String>
        /// Hosts that answer otherwise than before.
        var changed: Set<String> = []
        /// Hosts with several ways of which packets take others than before.
        var rerouted: Set<String> = []
        /// Whether addresses of hosts are to be reached otherwise than before.
        var hasDetours = false
        /// What there is to say.
        var lines: [String] = []
    }

    init(
        options: BFDOptions = BFDOptions(), send: @escaping @Sendable ([Probe]) -> Void,
        changed: @escaping @Sendable (News) -> Void
    ) throws(SystemError) {
        state = Mutex(State(monitor: PathMonitor(options: options, seed: .random(in: .min ... .max))))
        alarm = try Alarm()
        self.send = send
        self.changed = changed
    }

    /// Sets which tunnels there are.
    func setPaths(_ topology: Topology, host: String, ports: [TunnelEnd: PortNumber]) {
        var targets: [TunnelPath: Target] = [:]
        for other in topology.hosts.keys where other != host {
            for tunnel in topology.tunnels(from: host, to: other) {
                let end = TunnelEnd(encapsulation: tunnel.zone.encapsulation, local: tunnel.local)
                guard let port = ports[end] else { continue }
                targets[TunnelPath(end: end, remote: tunnel.remote)] = Target(host: other, port: port)
            }
        }
        let settled = state.withLock { state in
            state.targets = targets
            state.monitor.setPaths(Set(targets.keys), now: monotonicNanoseconds())
            return settle(&state)
        }
        tell(settled)
        alarm.ring()
    }

    /// Runs until ``stop()``; on a thread of its own.
    func run() {
        while true {
            let (toSend, settled, due) = state.withLock { state in
                let effects = state.isStopping ? [] : state.monitor.tick(now: monotonicNanoseconds())
                let hasChanged = effects.contains { if case .changed = $0 { true } else { false } }
                return (
                    probes(effects, state), hasChanged ? settle(&state) : nil,
                    state.isStopping ? nil : state.monitor.nextDue
                )
            }
            if !toSend.isEmpty { send(toSend) }
            tell(settled)
            guard let due else { return }
            alarm.wait(until: due)
        }
    }

    /// Tells the others that this host stops, and ends ``run()``.
    func stop() {
        let toSend = state.withLock { state in
            state.isStopping = true
            return probes(state.monitor.stop(now: monotonicNanoseconds()), state)
        }
        if !toSend.isEmpty { send(toSend) }
        alarm.ring()
    }

    /// A frame came through a tunnel under the key of probes. Called on packet threads.
    func receive(_ packet: borrowing UpcallPacket, by encapsulation: TunnelZone.Encapsulation) {
        let key = packet.key
        // Who is not a hop away can't have sent it (RFC 5881 section 5).
        guard key.etherType == EtherType.ipv4, key.ipProtocol == IPProtocol.udp, key.ipTTL == 255,
            key.destinationPort == PathProber.port, packet.layout.transport > 0
        else { return }
        let bytes = UnsafeRawBufferPointer(packet.bytes).dropFirst(Int(packet.layout.transport) + 8)
        guard let control = try? BFDPacket(reading: [UInt8](bytes)) else { return }
        let (local, remote) = (key.tunnelDestinationWords, key.tunnelSourceWords)
        let path = TunnelPath(
            end: TunnelEnd(
                encapsulation: encapsulation, local: IPAddress(high: local.0, low: local.1, family: .ipv4)),
            remote: IPAddress(high: remote.0, low: remote.1, family: .ipv4))
        let now = monotonicNanoseconds()
        let (settled, isDue) = state.withLock { state in
            // Probes come all the time, changes hardly ever.
            let hasChanged = !state.monitor.receive(control, on: path, now: now).isEmpty
            return (hasChanged ? settle(&state) : nil, state.monitor.nextDue <= now)
        }
        tell(settled)
        if isDue { alarm.ring() }
    }

    /// Notes which ways there are to go by; `nil` where it is as before.
    private func settle(_ state: inout State) -> News? {
        let statuses = state.monitor.statuses
        let choice = PathChoice(
            statuses.compactMap { status in
                state.targets[status.path].map { ($0.host, status.path, status.state, status.since) }
            })
        let down = Set(statuses.filter { $0.state == .down && state.targets[$0.path] != nil }.map(\.path))
        guard choice != state.choice || down != state.down else { return nil }
        state.settled += 1
        var news = News(number: state.settled, dead: choice.dead)
        news.changed = choice.dead.symmetricDifference(state.choice.dead)
        for path in choice.avoided.symmetricDifference(state.choice.avoided) {
            if let host = state.targets[path]?.host { news.rerouted.insert(host) }
        }
        news.hasDetours = choice.detours != state.choice.detours
        for path in down.symmetricDifference(state.down).sorted() {
            // Of a host that is gone altogether, or back from that, it is said as such.
            guard let host = state.targets[path]?.host, !news.changed.contains(host), !choice.dead.contains(host),
                state.targets.values.filter({ $0.host == host }).count > 1
            else { continue }
            let way = "the tunnel to \(host) by \(path.end.local)"
            news.lines.append(down.contains(path) ? "\(way) does not work: another one carries all" : "\(way) works")
        }
        for host in news.changed.sorted() {
            news.lines.append(
                choice.dead.contains(host)
                    ? "\(host) does not answer through its tunnel" : "the tunnel to \(host) works")
        }
        (state.choice, state.down) = (choice, down)
        avoided.set(choice.avoided)
        return news
    }

    private func tell(_ news: News?) {
        guard var news else { return }
        told.withLock { told in
            news.isLatest = news.number > told
            told = max(told, news.number)
            changed(news)
        }
    }

    /// Hosts that do not answer by any way, and how to reach those of which some addresses are down.
    func reach() -> (dead: Set<String>, detours: [String: Detour]) {
        state.withLock { ($0.choice.dead, $0.choice.detours) }
    }

    /// How all tunnels are.
    func report() -> [TunnelReport] {
        let now = monotonicNanoseconds()
        return state.withLock { state in
            state.monitor.statuses.compactMap { status in
                state.targets[status.path].map { target in
                    TunnelReport(host: target.host, status, now: now)
                }
            }
        }
    }

    // MARK: - Frames

    /// UDP port of single-hop BFD control packets (RFC 5881 section 4).
    static let port: UInt16 = 3784
    /// From the range of section 4; not its first port, which tools that look on take for another protocol.
    private static let sourcePort: UInt16 = 49_153
    /// Who asks and who is asked: two ends of a /31, so that a daemon on a VXLAN device can be the other one.
    private static let source = IPAddress(IPv4Address(bits: 0xa9fe_0101))
    private static let destination = IPAddress(IPv4Address(bits: 0xa9fe_0100))
    /// Of whoever ends a tunnel, for BFD (RFC 8971).
    private static let destinationMAC = MACAddress(bits: 0x0000_5e00_5202)

    private func probes(_ effects: [PathMonitor<TunnelPath>.Effect], _ state: borrowing State) -> [Probe] {
        var probes: [Probe] = []
        for effect in effects {
            guard case .send(let path, let packet) = effect, let target = state.targets[path] else { continue }
            // To ourselves the key says what this is; addresses are for others.
            let frame = Frame.udp(
                etherSource: MACAddress(bits: 0x0200_0000_0000 | UInt64(packet.own)),
                etherDestination: PathProber.destinationMAC,
                source: PathProber.source, destination: PathProber.destination, sourcePort: PathProber.sourcePort,
                destinationPort: PathProber.port, ttl: 255, tos: 0xc0, data: packet.bytes)
            var header = TunnelHeader(id: TunnelKeys.probe, source: path.end.local, destination: path.remote)
            // Network control (RFC 2474 section 4.2.2.1): what is to tell whether the way works must not queue.
            header.tos = 0xc0
            header.priority = UnderlayQueues.clusterPriority
            probes.append(Probe(frame: frame, actions: [.setTunnel(header), .output(target.port)]))
        }
        return probes
    }
}

/// How the way through a tunnel to a host is.
public struct TunnelReport: Sendable {
    /// The host.
    public var host: String
    /// `gre` or `vxlan`.
    public var encapsulation: String
    /// This host's end.
    public var local: IPAddress
    /// Its end.
    public var remote: IPAddress
    /// Whether what is sent arrives.
    public var state: PathState
    /// Seconds since it is so.
    public var seconds: Double
    /// How often it went down.
    public var failures: UInt64
    /// Seconds without an answer after which it is down; 0: it never answered.
    public var detectionSeconds: Double
    /// Probes that went.
    public var sent: UInt64
    /// Probes that came.
    public var received: UInt64

    init(host: String, _ status: PathMonitor<TunnelPath>.Status, now: UInt64) {
        self.host = host
        encapsulation = status.path.end.encapsulation.rawValue
        local = status.path.end.local
        remote = status.path.remote
        state = status.state
        seconds = now > status.since ? Double(now - status.since) / 1e9 : 0
        failures = status.failures
        detectionSeconds = Double(status.detectionTime) / 1e9
        sent = status.sent
        received = status.received
    }
}
