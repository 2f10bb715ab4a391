// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CLinux
import FlowState
import Glibc
import Gossip
import Linux
import Wire

/// What senders without keys cost a node, at a hundred thousand datagrams a second.
struct HostileCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "hostile")
    @Option(help: "Seconds of each flood.") var seconds = 3
    private static let perSecond = 100_000

    /// What a datagram is about to be taken for.
    private enum Kind: String, CaseIterable {
        /// Of nobody known.
        case strangers
        /// Of a peer whose id and start somebody on the way has read.
        case forged
    }

    private func datagram(_ kind: Kind) -> [UInt8] {
        var out = ByteWriter()
        out.number(UInt8(1))
        out.number(UInt8(1))
        out.number(UInt32(1))
        out.number(UInt64(kind == .forged ? 2 : 3))
        out.number(UInt64(1))
        out.raw([UInt8](repeating: 0, count: 80))
        return out.bytes
    }

    /// CPU seconds of this process so far, the kernel's for it included.
    private func cpu() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Sends a hundred thousand a second; CPU seconds that takes here, which on a loopback is all that receiving takes, too.
    private func flood(_ bytes: [UInt8], port: UInt16, bound: Int) throws -> (cpu: Double, took: Double) {
        var family: Int32 = 0
        let socket = Descriptor(try SystemError.check(cl_datagram_socket(0, 1 << 20, &family), "open a socket"))
        var address = [UInt8](repeating: 0, count: Int(CL_ADDRESS_SIZE))
        let length = cl_resolve("127.0.0.1", port, family, &address)
        let (before, began) = (cpu(), monotonicNanoseconds())
        var sent = 0
        while sent < bound {
            let due = min(
                bound, Int(Double(monotonicNanoseconds() - began) / 1e9 * Double(HostileCommand.perSecond)))
            while sent < due {
                _ = cl_datagram_send(socket.number, address, length, bytes, bytes.count)
                sent += 1
            }
            usleep(500)
        }
        return (cpu() - before, Double(monotonicNanoseconds() - began) / 1e9)
    }

    mutating func run() throws {
        let bound = seconds * HostileCommand.perSecond
        // What sending alone takes: to a port whose filter takes nothing at all.
        var family: Int32 = 0
        let sink = Descriptor(try SystemError.check(cl_datagram_socket(21_790, 1 << 16, &family), "open a socket"))
        _ = try SystemError.check(
            cl_datagram_accept_only(sink.number, 0, 0, 1, [1, 1, 1], [0, 0, 0], 1), "filter datagrams")
        for kind in Kind.allCases {
            let bytes = datagram(kind)
            let alone = try flood(bytes, port: 21_790, bound: bound)
            let port = try StatePort(own: PeerID(1), epoch: 1, cluster: "bench", port: 21_791)
            try port.setSecrets([1: [UInt8](repeating: 7, count: 32)], active: 1)
            port.setPeers([PeerID(2): .init(host: "127.0.0.1", port: 21_792, epoch: 1)])
            let thread = try NamedThread("state-hostile") {
                port.run(receive: { _, _, _ in }, step: { $0 + 1_000_000_000 })
            }
            let both = try flood(bytes, port: 21_791, bound: bound)
            usleep(100_000)
            port.stop()
            thread.join()
            let counters = port.counters
            let counted = counters.forged + counters.strangers + counters.refused
            guard counted == UInt64(bound), counters.received == 0 else {
                throw ValidationError("\(bound) were sent, \(counted) counted")
            }
            let percent = 100 * (both.cpu / both.took - alone.cpu / alone.took)
            print(
                "{\"name\": \"state.\(kind.rawValue)\", \"value\": \(percent), \"unit\": \"% of a core\", "
                    + "\"allocations\": 0}")
        }
    }
}
