// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import CLinux
import Glibc
import Linux
import Wire

/// Sends 64-byte UDP frames from one namespace and counts, by the kernel's own counter, what arrives in another.
///
/// Flooding finds how many packets get through; with a window at most that many are under way, so that what is counted is
/// a rate that holds without loss. With `--flows` each packet has ports never seen before.
struct BlastCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "blast")
    @Option var from: String
    @Option var to: String
    @Option var mac: String
    @Option var source: String
    @Option var destination: String
    @Option var seconds = 2.0
    @Option var window = 0
    @Option var first = 0
    @Flag var flows = false

    static let batch = 64

    mutating func run() throws {
        let counter = try inside(to) { try Counter() }
        let socket = try inside(from) { () throws -> Int32 in
            try SystemError.check(cl_packet_socket(cl_interface_index("eth0"), 4 << 20), "open a packet socket")
        }
        let sender = try inside(from) { MACAddress(bits: cl_interface_mac("eth0")) }
        guard let mac = MACAddress(mac), let source = IPAddress(source), let destination = IPAddress(destination) else {
            throw ValidationError("mac, source and destination are addresses")
        }
        var frame = Frame.udp(
            etherSource: sender, etherDestination: mac, source: source, destination: destination, sourcePort: 10_000,
            destinationPort: 20_000, data: [UInt8](repeating: 0x5e, count: 18))
        // Without a UDP checksum, so that ports can change freely.
        frame[40] = 0
        frame[41] = 0
        print(try blast(socket, frame, counter))
    }

    private func inside<Value: Sendable>(_ path: String, _ body: @escaping @Sendable () throws -> Value) throws -> Value
    {
        let reply = Reply<Result<Value, any Error>>()
        let thread = try NamedThread("bench") {
            reply.put(
                Result {
                    let descriptor = Descriptor(try SystemError.check(cl_open_path(path), "open \(path)"))
                    try SystemError.check(cl_enter(descriptor.number), "enter \(path)")
                    return try body()
                })
        }
        defer { thread.join() }
        return try reply.take().get()
    }

    private func blast(_ socket: Int32, _ frame: [UInt8], _ counter: Counter) throws -> String {
        let n = BlastCommand.batch
        let size = frame.count
        let memory = UnsafeMutableRawPointer.allocate(byteCount: n * (10 + size), alignment: 16)
        let messages = UnsafeMutablePointer<cl_message>.allocate(capacity: n)
        let pieces = UnsafeMutablePointer<iovec>.allocate(capacity: n)
        for index in 0..<n {
            let at = memory + index * (10 + size)
            memset(at, 0, 10)
            frame.withUnsafeBytes { (at + 10).copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: size) }
            (pieces + index).initialize(to: iovec(iov_base: at, iov_len: 10 + size))
            (messages + index).initialize(
                to: cl_message(
                    name: nil, name_length: 0, iov: pieces + index, iov_count: 1, control: nil, control_length: 0,
                    flags: 0,
                    padding: 0, length: 0))
        }
        let started = counter.read()
        let began = monotonicNanoseconds()
        let end = began + UInt64(seconds * 1e9)
        var sent: UInt64 = 0
        var lost: UInt64 = 0
        var flow = UInt64(first)
        var arrived: UInt64 = 0
        var progress = began
        while true {
            let now = monotonicNanoseconds()
            if now >= end { break }
            if window > 0, sent - lost - min(arrived, sent - lost) + UInt64(n) > UInt64(window) {
                let read = counter.read() - started
                if read != arrived {
                    arrived = read
                    progress = now
                } else if now - progress > 300_000_000 {
                    lost = sent - min(sent, arrived)
                    progress = now
                }
                if sent - lost - min(arrived, sent - lost) + UInt64(n) > UInt64(window) { continue }
            }
            if flows {
                for index in 0..<n {
                    let at = memory + index * (10 + size) + 10 + 34
                    at.storeBytes(of: UInt16(10_000 + flow % 1024).bigEndian, as: UInt16.self)
                    at.storeBytes(of: UInt16(20_000 + flow / 1024 % 2048).bigEndian, toByteOffset: 2, as: UInt16.self)
                    flow += 1
                }
            }
            let result = cl_send(socket, messages, UInt32(n))
            if result > 0 { sent += UInt64(result) }
        }
        // What is under way may arrive.
        var last = counter.read()
        var quiet = monotonicNanoseconds()
        while monotonicNanoseconds() - quiet < 50_000_000, last - started < sent {
            let read = counter.read()
            if read != last {
                last = read
                quiet = monotonicNanoseconds()
            }
        }
        let elapsed = Double(quiet - began) / 1e9
        let received = Double(last - started)
        return "{\"sent\": \(sent), \"received\": \(UInt64(received)), \"per_second\": \(received / elapsed)}"
    }
}

/// `rx_packets` of eth0 in the namespace where it was opened.
private final class Counter: Sendable {
    private let descriptor: Int32

    init() throws {
        descriptor = try SystemError.check(open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC), "read counters")
    }

    func read() -> UInt64 {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = pread(descriptor, &buffer, buffer.count, 0)
        let text = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        guard let line = text.split(separator: "\n").first(where: { $0.contains("eth0:") }),
            let colon = line.firstIndex(of: ":")
        else { return 0 }
        let fields = line[line.index(after: colon)...].split(separator: " ")
        return fields.count > 1 ? UInt64(fields[1]) ?? 0 : 0
    }
}
