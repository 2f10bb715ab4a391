// SPDX-License-Identifier: Apache-2.0
import CLinux
import Foundation
import Gossip
import Linux
import Synchronization
import TLS
import Wire

/// What a ``StatePort`` counts.
public struct StatePortCounters: Sendable, Equatable {
    /// Datagrams that were sent.
    public var sent: UInt64 = 0
    /// Datagrams that were not: there is no key yet, nobody knows where the peer is, or the system did not take them.
    public var unsent: UInt64 = 0
    /// Datagrams that came and were genuine.
    public var received: UInt64 = 0
    /// Datagrams that the kernel dropped: they are too short or too long, or not of a start of a node that is known; or there
    /// was no room for them.
    public var refused: UInt64 = 0
    /// Datagrams under a key that is not in force, or of a node that was removed a moment ago.
    public var strangers: UInt64 = 0
    /// Datagrams that are not as they were sealed.
    public var forged: UInt64 = 0
    /// Genuine datagrams that came before.
    public var replayed: UInt64 = 0
    /// Datagrams that are too short or too long.
    public var malformed: UInt64 = 0
}

/// Sealed datagrams between nodes: each under a key of its sender's, derived from a secret of the cluster, the sender and
/// its start, with a counter as nonce. Who has not the secret can neither read nor write; what is sent again is noticed.
///
/// What a datagram begins with: version (1 byte), number of the secret (1), the sender's start (4) and id (8), a counter (8).
/// That and the receiver's id are sealed with the rest (16 bytes of tag at the end).
public final class StatePort: StateTransport {
    /// Who a peer is and where.
    public struct Peer: Sendable, Equatable {
        /// Host name or address.
        public var host: String
        /// UDP port.
        public var port: Int
        /// Its current start; 0 while it is not known.
        public var epoch: UInt64

        /// A peer.
        public init(host: String, port: Int, epoch: UInt64) {
            self.host = host
            self.port = port
            self.epoch = epoch
        }
    }

    static let version: UInt8 = 1
    static let headerBytes = 22
    /// The largest datagram that is taken.
    static let largest = 9000
    /// Datagrams that are read before what is due is looked at.
    private static let burst = Int(CL_DATAGRAMS_AT_ONCE)

    /// How soon after the last datagrams the next are read: many that come one by one cost little more than the same together.
    private static let pause: UInt64 = 200_000
    /// How often nothing came after a pause before the thread lets itself be woken again, which costs senders and receiver more
    /// than to look.
    private static let looks = 2

    let own: PeerID
    private let epoch: UInt64
    private let cluster: String
    /// What is sealed besides by those who send to this start.
    private let besides: [UInt8]
    private let socket: Descriptor
    private let family: Int32
    private let wakeup: Descriptor
    private let epoll: Descriptor
    /// By which the kernel tells peers from strangers; see `cl_datagram_accept_only`.
    private let factors: [UInt32] = (0..<3).map { _ in .random(in: .min ... .max) | 1 }

    /// What seals.
    private final class Sealer: @unchecked Sendable {  // touched with `sending` held only
        var key: DatagramKey
        init(_ key: consuming DatagramKey) { self.key = key }
    }
    private struct Sending {
        /// Begins by the clock, further on than any run before it can have come, if nobody set the clock back: a directory that
        /// was restored from a copy would use a start's key again, and must not use its nonces again.
        var counter = UInt64(max(0, Date().timeIntervalSince1970 * 1e6)) << 10
        var number: UInt8 = 0
        var sealer: Sealer?
        /// Socket address by peer, and what is sealed besides for it.
        var addresses: [PeerID: (bytes: [UInt8], besides: [UInt8])] = [:]
        var counts = (sent: UInt64(0), unsent: UInt64(0))
    }
    private struct Receiving: ~Copyable {
        var secrets: [UInt8: [UInt8]] = [:]
        var peers: [PeerID: Peer] = [:]
        var windows: [PeerID: ReplayWindow] = [:]
        var counters = StatePortCounters()
        /// What the kernel counted, which wraps, when it was asked last.
        var dropped: UInt32 = 0
    }
    /// A key that opens what a peer sealed.
    private final class Opener {
        var key: DatagramKey
        let epoch: UInt64
        init(_ key: consuming DatagramKey, _ epoch: UInt64) {
            self.key = key
            self.epoch = epoch
        }
    }
    private let sending = Mutex(Sending())
    private let receiving = Mutex(Receiving())
    private let isStopping = Atomic<Bool>(false)
    /// Whether the secrets or the peers are others than the thread knows.
    private let isStale = Atomic<Bool>(false)

    /// Opens a UDP port of all addresses.
    public init(own: PeerID, epoch: UInt64, cluster: String, port: UInt16) throws(SystemError) {
        self.own = own
        self.epoch = epoch
        self.cluster = cluster
        besides = StatePort.besides(own, epoch: epoch)
        var family: Int32 = 0
        socket = Descriptor(
            try SystemError.check(cl_datagram_socket(port, 8 << 20, &family), "open UDP port \(port)"))
        self.family = family
        wakeup = Descriptor(try SystemError.check(cl_eventfd(), "make an event"))
        epoll = Descriptor(try SystemError.check(cl_epoll_create(), "make an event queue"))
        _ = try SystemError.check(cl_epoll_add(epoll.number, socket.number, 0), "watch UDP port \(port)")
        _ = try SystemError.check(cl_epoll_add(epoll.number, wakeup.number, 1), "watch an event")
        try accept(only: [:])
    }

    // MARK: - Who and how

    private func info(_ sender: PeerID, _ epoch: UInt64) -> [UInt8] {
        Array("selvage flow state \(cluster) \(sender) \(epoch)".utf8)
    }

    /// Sets the secrets by which datagrams are opened, and the number of the one by which they are sealed.
    public func setSecrets(_ secrets: [UInt8: [UInt8]], active: UInt8?) throws(TLSError) {
        var sealer: Sealer?
        if let active, let secret = secrets[active] {
            sealer = Sealer(try DatagramKey(secret: secret, info: info(own, epoch), seals: true))
        }
        let new = sealer
        receiving.withLock { $0.secrets = secrets }
        isStale.store(true, ordering: .releasing)
        sending.withLock { sending in
            sending.number = active ?? 0
            // The counter goes on: it is never the same twice, whatever the key.
            sending.sealer = new
        }
    }

    /// Sets who the others are. What can't be resolved is reached when it can.
    public func setPeers(_ peers: [PeerID: Peer]) {
        let known = receiving.withLock { $0.peers }
        // Names that could not be looked up are looked up again.
        guard known != peers || sending.withLock({ $0.addresses.count }) < peers.count else { return }
        // What is known stays, also where its name can't be looked up again: only others are asked for.
        let before = sending.withLock { $0.addresses }
        var addresses: [PeerID: (bytes: [UInt8], besides: [UInt8])] = [:]
        for (id, peer) in peers {
            if known[id] == peer, let bytes = before[id]?.bytes {
                addresses[id] = (bytes, StatePort.besides(id, epoch: peer.epoch))
                continue
            }
            var storage = [UInt8](repeating: 0, count: Int(CL_ADDRESS_SIZE))
            let length = cl_resolve(peer.host, UInt16(truncatingIfNeeded: peer.port), family, &storage)
            let isSame = known[id]?.host == peer.host && known[id]?.port == peer.port
            if let bytes = length > 0 ? Array(storage.prefix(Int(length))) : isSame ? before[id]?.bytes : nil {
                addresses[id] = (bytes, StatePort.besides(id, epoch: peer.epoch))
            }
        }
        let found = addresses
        sending.withLock { $0.addresses = found }
        receiving.withLock { receiving in
            for (id, peer) in receiving.peers where peers[id]?.epoch != peer.epoch { receiving.windows[id] = nil }
            receiving.peers = peers
        }
        // Where the kernel does not take a filter of so many, strangers' datagrams are refused one by one.
        try? accept(only: peers)
        isStale.store(true, ordering: .releasing)
    }

    /// Has the kernel drop what is of nobody known: who has no key can't have this node look at what it sends.
    private func accept(only peers: [PeerID: Peer]) throws(SystemError) {
        var words: [UInt32] = []
        for (id, peer) in peers where peer.epoch != 0 {
            words += [
                UInt32(truncatingIfNeeded: peer.epoch), UInt32(id.value >> 32), UInt32(truncatingIfNeeded: id.value),
            ]
        }
        _ = try SystemError.check(
            cl_datagram_accept_only(
                socket.number, Int32(StatePort.headerBytes + DatagramKey.tagBytes), Int32(StatePort.largest),
                Int32(StatePort.version), factors, words, Int32(words.count / 3)), "filter datagrams")
    }

    /// What was counted.
    public var counters: StatePortCounters {
        var counters = receiving.withLock { receiving in
            var dropped: UInt32 = 0
            if cl_datagram_dropped(socket.number, &dropped) == 0 {
                receiving.counters.refused &+= UInt64(dropped &- receiving.dropped)
                receiving.dropped = dropped
            }
            return receiving.counters
        }
        (counters.sent, counters.unsent) = sending.withLock { $0.counts }
        return counters
    }

    // MARK: - Out

    /// The header of a datagram, which is written here.
    public var headroom: Int { StatePort.headerBytes }

    private func writeHeader(_ number: UInt8, _ counter: UInt64, to datagram: inout [UInt8]) {
        datagram.withUnsafeMutableBytes { out in
            out[0] = StatePort.version
            out[1] = number
            out.storeBytes(of: UInt32(truncatingIfNeeded: epoch).bigEndian, toByteOffset: 2, as: UInt32.self)
            out.storeBytes(of: own.value.bigEndian, toByteOffset: 6, as: UInt64.self)
            out.storeBytes(of: counter.bigEndian, toByteOffset: 14, as: UInt64.self)
        }
    }

    /// What is sealed besides: for whom a datagram is, and for which of its starts, so that what was recorded is worth nothing
    /// to a receiver that begins anew and remembers no counters.
    static func besides(_ receiver: PeerID, epoch: UInt64) -> [UInt8] {
        var out = ByteWriter()
        out.number(receiver.value)
        out.number(epoch)
        return out.bytes
    }

    /// Seals and sends a datagram, which begins with room for the header. It is lost where there is no key yet, or the peer's
    /// address is not known.
    public func send(_ datagram: consuming [UInt8], to peer: PeerID) {
        precondition(datagram.count >= StatePort.headerBytes, "no room for the header")
        var datagram = datagram
        sending.withLock { sending in
            guard let address = sending.addresses[peer], let sealer = sending.sealer else {
                sending.counts.unsent &+= 1
                return
            }
            let counter = sending.counter
            sending.counter += 1
            writeHeader(sending.number, counter, to: &datagram)
            guard
                sealer.key.seal(
                    &datagram, header: StatePort.headerBytes, counter: counter, more: address.besides),
                cl_datagram_send(
                    socket.number, address.bytes, Int32(address.bytes.count), datagram, datagram.count) > 0
            else {
                sending.counts.unsent &+= 1
                return
            }
            sending.counts.sent &+= 1
        }
    }

    // MARK: - In

    /// Has the thread look at what is due. Can be called on any thread.
    public func wake() { cl_eventfd_signal(wakeup.number) }

    /// Ends ``run(_:step:)``.
    public func stop() {
        isStopping.store(true, ordering: .releasing)
        wake()
    }

    /// Receives until it is stopped; the calling thread is its own.
    ///
    /// - Parameters:
    ///   - receive: takes a genuine datagram and who sent it.
    ///   - step: does what is due and says when something is due next; nanoseconds of the monotonic clock.
    public func run(receive: ([UInt8], PeerID, UInt64) -> Void, step: (UInt64) -> UInt64) {
        var openers: [PeerID: [UInt8: Opener]] = [:]
        var buffer = [UInt8](repeating: 0, count: StatePort.largest * StatePort.burst)
        var lengths = [Int32](repeating: 0, count: StatePort.burst)
        var due: UInt64 = 0
        var last: UInt64 = 0
        // How often it is looked for more before waiting for it.
        var looks = 0
        var data = [UInt64](repeating: 0, count: 2)
        var events = [UInt32](repeating: 0, count: 2)
        cl_thread_pauses_exactly()
        while !isStopping.load(ordering: .acquiring) {
            var now = monotonicNanoseconds()
            var mayRead = looks > 0
            if !mayRead {
                let milliseconds = due <= now ? 0 : min((due - now + 999_999) / 1_000_000, 1000)
                let ready = cl_epoll_wait(epoll.number, &data, &events, 2, Int32(milliseconds))
                for index in 0..<max(0, Int(ready)) {
                    if data[index] == 1 { cl_eventfd_drain(wakeup.number) } else { mayRead = true }
                }
                now = monotonicNanoseconds()
            }
            var count: Int32 = 0
            if mayRead {
                let isSoon = now < last &+ StatePort.pause
                if isSoon { cl_pause(last &+ StatePort.pause - now) }
                count = cl_datagram_receive(
                    socket.number, &buffer, StatePort.largest, Int32(StatePort.burst), &lengths)
                // What does not end is read without a pause.
                last = count < StatePort.burst ? monotonicNanoseconds() : 0
                looks = count > 0 && isSoon ? StatePort.looks : max(0, looks - 1)
            }
            if isStale.exchange(false, ordering: .acquiring) { openers.removeAll() }
            now = monotonicNanoseconds()
            for place in 0..<max(0, Int(count)) {
                let opened = buffer.withUnsafeMutableBytes { raw in
                    let start = place * StatePort.largest
                    // One that is longer was not stored as a whole, and is as good as empty.
                    let length = lengths[place] > StatePort.largest ? 0 : Int(lengths[place])
                    return open(UnsafeMutableRawBufferPointer(rebasing: raw[start..<start + length]), &openers)
                }
                if let (bytes, sender) = opened { receive(bytes, sender, now) }
            }
            due = step(now)
        }
    }

    /// Opens a datagram; `nil` when it is not genuine.
    private func open(_ datagram: UnsafeMutableRawBufferPointer, _ openers: inout [PeerID: [UInt8: Opener]])
        -> ([UInt8], PeerID)?
    {
        guard datagram.count >= StatePort.headerBytes + DatagramKey.tagBytes, datagram[0] == StatePort.version else {
            receiving.withLock { $0.counters.malformed &+= 1 }
            return nil
        }
        let secret = datagram[1]
        let start = UInt32(bigEndian: datagram.loadUnaligned(fromByteOffset: 2, as: UInt32.self))
        let sender = PeerID(UInt64(bigEndian: datagram.loadUnaligned(fromByteOffset: 6, as: UInt64.self)))
        let counter = UInt64(bigEndian: datagram.loadUnaligned(fromByteOffset: 14, as: UInt64.self))
        // Who does not know a peer's start does not get past this: no key is derived, and nothing is opened.
        let isExpected = receiving.withLock { receiving in
            guard let peer = receiving.peers[sender], peer.epoch != 0,
                UInt32(truncatingIfNeeded: peer.epoch) == start, receiving.secrets[secret] != nil
            else {
                receiving.counters.strangers &+= 1
                return false
            }
            guard receiving.windows[sender]?.accepts(counter) ?? true else {
                receiving.counters.replayed &+= 1
                return false
            }
            return true
        }
        guard isExpected, let opener = opener(sender, secret, &openers) else { return nil }
        let bytes = opener.key.open(datagram, header: StatePort.headerBytes, counter: counter, more: besides)
        return receiving.withLock { receiving in
            guard let bytes else {
                receiving.counters.forged &+= 1
                return nil
            }
            // Its window is that of the start that the key was derived for.
            guard receiving.peers[sender]?.epoch == opener.epoch,
                receiving.windows[sender, default: ReplayWindow()].take(counter)
            else {
                receiving.counters.replayed &+= 1
                return nil
            }
            receiving.counters.received &+= 1
            return (Array(bytes), sender)
        }
    }

    private func opener(_ sender: PeerID, _ number: UInt8, _ openers: inout [PeerID: [UInt8: Opener]]) -> Opener? {
        if let known = openers[sender]?[number] { return known }
        let (secret, epoch) = receiving.withLock { ($0.secrets[number], $0.peers[sender]?.epoch ?? 0) }
        guard let secret, let key = try? DatagramKey(secret: secret, info: info(sender, epoch), seals: false) else {
            return nil
        }
        let opener = Opener(key, epoch)
        openers[sender, default: [:]][number] = opener
        return opener
    }
}
