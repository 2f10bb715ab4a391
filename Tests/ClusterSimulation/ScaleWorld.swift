// SPDX-License-Identifier: Apache-2.0
import Gossip
import TestSupport
import Wire

/// Many hosts that tell each other of connections, with the real channels between each two of them and rows that are numbers:
/// how much is sent, and how long it takes until all know.
public final class ScaleWorld {
    /// What is simulated.
    public struct Plan: Sendable {
        /// Hosts.
        public var hosts: Int
        /// New connections a second, of all hosts together.
        public var rate: Double
        /// For how long they are opened, seconds.
        public var seconds: Double
        /// The part of the datagrams that is lost.
        public var loss: Double
        /// Bytes of a connection's row.
        public var rowBytes: Int

        /// A plan.
        public init(hosts: Int, rate: Double, seconds: Double, loss: Double, rowBytes: Int) {
            (self.hosts, self.rate, self.seconds, self.loss, self.rowBytes) = (hosts, rate, seconds, loss, rowBytes)
        }
    }

    /// What came of it; bytes are those on the wire, headers up to Ethernet's included.
    public struct Figures: Sendable {
        /// Connections that were opened.
        public var connections = 0
        /// Of the median host, each second: datagrams and bytes out, datagrams in.
        public var datagramsOut = 0.0, bytesOut = 0.0, datagramsIn = 0.0
        /// The same of the host that sends most.
        public var mostOut = 0.0
        /// Until the host of the answer knew of a connection, nanoseconds, sorted; lost datagrams included.
        public var pushed: [UInt64] = []
        /// Until all hosts knew, nanoseconds, sorted.
        public var known: [UInt64] = []
        /// Connections that some host never heard of, by itself.
        public var unknown = 0
        /// Times that tables were to be compared.
        public var compared = 0
        /// What hosts idle for a second send, each, bytes.
        public var idleBytes = 0.0
    }

    private enum Payload {
        case rows(number: UInt64, Range<UInt64>, isPush: Bool)
        case frame(GossipFrame)
    }
    private struct Datagram {
        var from: Int32
        var to: Int32
        var payload: Payload
    }
    private struct Host {
        var replicator: Replicator
        var flush: UInt64?
        /// When an entry for all was made, and how many have not heard of it.
        var open: [UInt64: (at: UInt64, left: Int32)] = [:]
        var datagramsOut = 0, bytesOut = 0, datagramsIn = 0

        init(_ replicator: Replicator) { self.replicator = replicator }
    }

    private static let tick: UInt64 = 100_000
    /// Sealing (22 + 16), UDP and IPv4 (28), Ethernet (14).
    private static let overhead = 80
    /// An answer comes so long after the first packet, ticks.
    private static let answer = 20

    private let plan: Plan
    private var random: SeededRandom
    private var hosts: [Host]
    private var now: UInt64 = 0
    /// What arrives in the next ticks.
    private var wire = [[Datagram]](repeating: [], count: 16)
    private var figures = Figures()
    /// When a push was made, by the host it goes to, who sent it and its number.
    private var pushes: [[UInt64]: UInt64] = [:]

    /// Hosts that know nothing yet.
    public init(_ plan: Plan, seed: UInt64) {
        self.plan = plan
        random = SeededRandom(seed: seed)
        var options = ReplicatorOptions()
        // Rows are few here, and hosts are many.
        options.entries = 1 << 12
        hosts = (0..<plan.hosts).map { _ in Host(Replicator(options: options)) }
        let ids = Set((0..<plan.hosts).map { PeerID(UInt64($0 + 1)) })
        for host in hosts.indices { hosts[host].replicator.setPeers(ids.subtracting([PeerID(UInt64(host + 1))])) }
    }

    // MARK: - Running

    /// Runs the plan.
    public func run() -> Figures {
        // Until everybody has heard everybody, and each has its own time.
        while now < 3_000_000_000 { step() }
        resetCounts()
        figures.compared = 0
        while now < 4_000_000_000 { step() }
        figures.idleBytes = Double(hosts.map(\.bytesOut).sorted()[hosts.count / 2])
        resetCounts()
        let ticks = Int(plan.seconds * 1e9) / Int(ScaleWorld.tick)
        let each = plan.rate * Double(ScaleWorld.tick) / 1e9
        var due = 0.0
        var asked: [[Int]] = []
        for _ in 0..<ticks {
            due += each
            var opened: [Int] = []
            while due >= 1 {
                opened.append(open())
                due -= 1
            }
            asked.append(opened)
            if asked.count > ScaleWorld.answer { asked[asked.count - 1 - ScaleWorld.answer].forEach(tell) }
            step()
        }
        let took = plan.seconds
        func median(_ counts: [Int]) -> Double { Double(counts.sorted()[counts.count / 2]) / took }
        figures.datagramsOut = median(hosts.map(\.datagramsOut))
        figures.bytesOut = median(hosts.map(\.bytesOut))
        figures.datagramsIn = median(hosts.map(\.datagramsIn))
        figures.mostOut = Double(hosts.map(\.datagramsOut).max() ?? 0) / took
        asked.suffix(ScaleWorld.answer).joined().forEach(tell)
        // What is still under way.
        let end = now + 3_000_000_000
        while now < end, hosts.contains(where: { !$0.open.isEmpty }) { step() }
        figures.unknown = hosts.reduce(0) { $0 + $1.open.count }
        figures.pushed.sort()
        figures.known.sort()
        return figures
    }

    private func resetCounts() {
        for host in hosts.indices {
            (hosts[host].datagramsOut, hosts[host].bytesOut, hosts[host].datagramsIn) = (0, 0, 0)
        }
    }

    /// A connection begins: its row goes to the host of the answer, which is some other one. Returns where it began.
    private func open() -> Int {
        figures.connections += 1
        let host = Int.random(in: 0..<hosts.count, using: &random)
        var other = Int.random(in: 0..<hosts.count - 1, using: &random)
        if other >= host { other += 1 }
        let entry = hosts[host].replicator.append(UInt64(figures.connections), isShared: false)
        let id = PeerID(UInt64(other + 1))
        if let number = hosts[host].replicator.push(entry..<entry + 1, to: id, now: now) {
            pushes[[UInt64(other), UInt64(host), number]] = now
            send(host, other, .rows(number: number, entry..<entry + 1, isPush: true))
        }
        return host
    }

    /// It is answered: everybody is to know of it.
    private func tell(_ host: Int) {
        // Which row it is does not matter here.
        let entry = hosts[host].replicator.append(0, isShared: true)
        hosts[host].open[entry] = (now, Int32(hosts.count - 1))
        if hosts[host].flush == nil { hosts[host].flush = now + hosts[host].replicator.gather }
    }

    private func step() {
        let slot = Int(now / ScaleWorld.tick) % wire.count
        let arriving = wire[slot]
        wire[slot].removeAll(keepingCapacity: true)
        for datagram in arriving { receive(datagram) }
        for host in hosts.indices {
            if let flush = hosts[host].flush, flush <= now {
                hosts[host].flush = nil
                perform(host, hosts[host].replicator.flush(now: now))
            }
            if hosts[host].replicator.nextDue <= now {
                perform(host, hosts[host].replicator.tick(now: now))
                if hosts[host].flush == nil, hosts[host].replicator.isPending(now: now) {
                    hosts[host].flush = now + hosts[host].replicator.gather
                }
            }
        }
        now += ScaleWorld.tick
    }

    private func receive(_ datagram: Datagram) {
        let (from, to) = (Int(datagram.from), Int(datagram.to))
        let id = PeerID(UInt64(from + 1))
        hosts[to].datagramsIn += 1
        switch datagram.payload {
        case .frame(let frame): perform(to, hosts[to].replicator.received(frame, from: id, now: now))
        case .rows(let number, let entries, let isPush):
            guard hosts[to].replicator.received(number: number, from: id, now: now) else { return }
            if isPush {
                if let at = pushes.removeValue(forKey: [UInt64(to), UInt64(from), number]) {
                    figures.pushed.append(now - at)
                }
                return
            }
            for entry in entries {
                guard var one = hosts[from].open[entry] else { continue }
                one.left -= 1
                hosts[from].open[entry] = one.left == 0 ? nil : one
                if one.left == 0 { figures.known.append(now - one.at) }
            }
        }
    }

    private func perform(_ host: Int, _ effects: [Replicator.Effect]) {
        for effect in effects {
            switch effect {
            case .rows(let peer, let number, let entries, let isPush):
                send(host, Int(peer.value) - 1, .rows(number: number, entries, isPush: isPush))
            case .frame(let peer, let frame): send(host, Int(peer.value) - 1, .frame(frame))
            case .compare: figures.compared += 1
            }
        }
    }

    private func send(_ from: Int, _ to: Int, _ payload: Payload) {
        var bytes = ScaleWorld.overhead
        switch payload {
        case .rows(let number, let entries, let isPush):
            var header = ByteWriter()
            GossipFrame.rows(number: number, bytes: []).encode(into: &header)
            let rows = isPush ? entries.count : entries.count { hosts[from].replicator.isShared($0) }
            bytes += header.bytes.count + rows * plan.rowBytes
        case .frame(let frame):
            var out = ByteWriter()
            frame.encode(into: &out)
            bytes += out.bytes.count
        }
        hosts[from].datagramsOut += 1
        hosts[from].bytesOut += bytes
        if plan.loss > 0, Double.random(in: 0..<1, using: &random) < plan.loss { return }
        let delay = UInt64.random(in: 1...5, using: &random)
        wire[Int(now / ScaleWorld.tick + delay) % wire.count].append(
            Datagram(from: Int32(from), to: Int32(to), payload: payload))
    }
}
