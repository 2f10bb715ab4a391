// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Gossip
import Linux
import Synchronization
import TLS
import Testing
import Wire

@testable import FlowState

extension StatePort {
    fileprivate func send(_ text: String, to peer: PeerID) {
        var out = ByteWriter(headroom: headroom)
        out.raw(text.utf8)
        send(out.finish(), to: peer)
    }
}

/// Two ports on this machine that know each other, and what each got.
private final class Pair: Sendable {
    let a: StatePort
    let b: StatePort
    let ports: (UInt16, UInt16)
    let got = Mutex<[String]>([])
    private let threads = Mutex<[NamedThread]>([])

    /// A port of a node, at a number that is free: many tests may run on one machine.
    static func open(_ id: UInt64, _ epoch: UInt64) throws -> (StatePort, UInt16) {
        for _ in 0..<200 {
            let number = UInt16.random(in: 20_000...30_000)
            if let port = try? StatePort(own: PeerID(id), epoch: epoch, cluster: "c", port: number) {
                return (port, number)
            }
        }
        throw SystemError(98, "find a free port")
    }

    init(epochOfA: UInt64 = 5) throws {
        let (a, b) = (try Pair.open(1, epochOfA), try Pair.open(2, 9))
        (self.a, self.b, ports) = (a.0, b.0, (a.1, b.1))
        a.0.setPeers([PeerID(2): .init(host: "127.0.0.1", port: Int(b.1), epoch: 9)])
        b.0.setPeers([PeerID(1): .init(host: "127.0.0.1", port: Int(a.1), epoch: 5)])
        let thread = try NamedThread("test-state") { [self] in
            self.b.run(
                receive: { bytes, sender, _ in
                    self.got.withLock { $0.append("\(sender.value) \(String(decoding: bytes, as: UTF8.self))") }
                }, step: { $0 + 10_000_000 })
        }
        threads.withLock { $0.append(thread) }
    }

    func end() {
        b.stop()
        for thread in threads.withLock({ $0 }) { thread.join() }
    }

    /// Bytes from nowhere to the second port.
    func inject(_ bytes: [UInt8]) throws {
        var family: Int32 = 0
        let socket = Descriptor(try SystemError.check(cl_datagram_socket(0, 1 << 16, &family), "open a socket"))
        var address = [UInt8](repeating: 0, count: Int(CL_ADDRESS_SIZE))
        let length = cl_resolve("127.0.0.1", ports.1, family, &address)
        _ = cl_datagram_send(socket.number, address, length, bytes, bytes.count)
    }

    func until(_ condition: () -> Bool) -> Bool {
        let deadline = monotonicNanoseconds() + 10_000_000_000
        while monotonicNanoseconds() < deadline {
            if condition() { return true }
            usleep(2000)
        }
        return false
    }
}

@Suite(.serialized) struct StatePortTests {
    private let one = [UInt8](repeating: 1, count: 32)
    private let two = [UInt8](repeating: 2, count: 32)

    @Test func `what is sealed arrives, in order of keys, and a secret that is gone opens nothing`() throws {
        let pair = try Pair()
        defer { pair.end() }
        pair.a.send("too early", to: PeerID(2))
        #expect(pair.a.counters.unsent == 1)
        try pair.a.setSecrets([1: one], active: 1)
        try pair.b.setSecrets([1: one], active: 1)
        pair.a.send("first", to: PeerID(2))
        #expect(pair.until { pair.got.withLock { $0 } == ["1 first"] })
        // Install, use, remove: at no moment is anything lost.
        try pair.b.setSecrets([1: one, 2: two], active: 1)
        try pair.a.setSecrets([1: one, 2: two], active: 2)
        pair.a.send("second", to: PeerID(2))
        #expect(pair.until { pair.got.withLock { $0.last } == "1 second" })
        try pair.b.setSecrets([2: two], active: 2)
        // Whoever was left behind with the old secret is a stranger now.
        try pair.a.setSecrets([1: one], active: 1)
        pair.a.send("third", to: PeerID(2))
        #expect(pair.until { pair.b.counters.strangers == 1 })
        #expect(pair.got.withLock { $0.count } == 2)
    }

    @Test func `forged, replayed and cut datagrams change nothing and are counted`() throws {
        let pair = try Pair()
        defer { pair.end() }
        try pair.b.setSecrets([1: one], active: 1)
        // What the first port sends, as somebody on the way sees it.
        var key = try DatagramKey(
            secret: one, info: Array("selvage flow state c \(PeerID(1)) 5".utf8), seals: true)
        func datagram(_ text: String, counter: UInt64, to receiver: UInt64 = 2) -> [UInt8] {
            var out = ByteWriter()
            out.number(StatePort.version)
            out.number(UInt8(1))
            out.number(UInt32(5))
            out.number(UInt64(1))
            out.number(counter)
            out.raw(text.utf8)
            var bytes = out.finish()
            let besides = StatePort.besides(PeerID(receiver), epoch: 9)
            _ = key.seal(&bytes, header: StatePort.headerBytes, counter: counter, more: besides)
            return bytes
        }
        let genuine = datagram("genuine", counter: 7)
        try pair.inject(genuine)
        #expect(pair.until { pair.got.withLock { $0 } == ["1 genuine"] })
        try pair.inject(genuine)
        #expect(pair.until { pair.b.counters.replayed == 1 })
        for place in [23, 40, 13, 21] {
            var forged = datagram("forged", counter: 8 + UInt64(place))
            forged[place] ^= 1
            try pair.inject(forged)
        }
        // A changed sender is nobody known, and nothing this port looks at; a changed counter, text or tag is no longer what
        // was sealed.
        #expect(pair.until { pair.b.counters.forged == 3 && pair.b.counters.refused == 1 })
        // What was for another node.
        try pair.inject(datagram("elsewhere", counter: 100, to: 3))
        #expect(pair.until { pair.b.counters.forged == 4 })
        try pair.inject([])
        try pair.inject(Array(genuine.prefix(30)))
        try pair.inject([UInt8](repeating: 1, count: 9500))
        try pair.inject([2] + genuine.dropFirst())
        #expect(pair.until { pair.b.counters.refused == 5 })
        #expect(pair.b.counters.malformed == 0)
        #expect(pair.got.withLock { $0.count } == 1)
    }

    @Test func `a start that is run once more, from a copy of its directory, uses no nonce again`() throws {
        let pair = try Pair()
        defer { pair.end() }
        try pair.b.setSecrets([1: one], active: 1)
        let (copy, _) = try Pair.open(1, 5)
        copy.setPeers([PeerID(2): .init(host: "127.0.0.1", port: Int(pair.ports.1), epoch: 9)])
        for (port, word) in [(pair.a, "one"), (copy, "two")] {
            try port.setSecrets([1: one], active: 1)
            port.send(word, to: PeerID(2))
            #expect(pair.until { pair.got.withLock { $0.last } == "1 " + word })
        }
        #expect(pair.b.counters.replayed == 0)
    }

    @Test func `of a thousand peers the kernel lets each through, and nobody else`() throws {
        let pair = try Pair()
        defer { pair.end() }
        try pair.b.setSecrets([1: one], active: 1)
        func peers(_ count: UInt64) -> [PeerID: StatePort.Peer] {
            Dictionary(
                uniqueKeysWithValues: (1...count).map {
                    (PeerID($0 << 33 | $0), .init(host: "127.0.0.1", port: Int(pair.ports.0), epoch: $0))
                })
        }
        func datagram(_ id: UInt64, _ epoch: UInt64) -> [UInt8] {
            var out = ByteWriter()
            out.number(StatePort.version)
            out.number(UInt8(1))
            out.number(UInt32(epoch))
            out.number(id << 33 | id)
            out.raw([UInt8](repeating: 0, count: 40))
            return out.bytes
        }
        // What gets through is looked at, and is not genuine; of three thousand peers no filter knows, and all is looked at.
        for (count, refused) in [(3, 2), (1000, 2), (3000, 0)] as [(UInt64, UInt64)] {
            pair.b.setPeers(peers(count))
            let before = pair.b.counters
            for id in [1, count / 2, count] { try pair.inject(datagram(id == 0 ? 1 : id, id == 0 ? 1 : id)) }
            try pair.inject(datagram(count + 1, count + 1))
            try pair.inject(datagram(1, 2))
            #expect(
                pair.until {
                    let now = pair.b.counters
                    return now.forged == before.forged + 3 && now.refused == before.refused + refused
                        && now.strangers == before.strangers + 2 - refused
                }, "\(count) peers: \(pair.b.counters)")
        }
    }

    @Test func `a recording of an earlier start is worth nothing`() throws {
        let pair = try Pair(epochOfA: 4)
        defer { pair.end() }
        try pair.a.setSecrets([1: one], active: 1)
        try pair.b.setSecrets([1: one], active: 1)
        // The second knows by TLS that the first runs its fifth start.
        pair.a.send("old", to: PeerID(2))
        #expect(pair.until { pair.b.counters.refused == 1 })
        #expect(pair.got.withLock { $0.isEmpty })
    }
}
