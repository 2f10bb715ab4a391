// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Wire

/// What a routing daemon says last when its node was killed, and the engine that carries packets with it: that its sessions are over.
/// Neighbors without BFD would find out only when their hold time is over, and send here until then.
///
/// The daemon is told to end; what it says of that, and nothing else, is carried between its interface and the uplink's. With an
/// engine that outlives the node none of this is so: packets go on, and neighbors are to keep what they know.
public struct Farewell: Sendable {
    /// The uplink's interface.
    public let uplink: String
    /// The host's end of the daemon's.
    public let daemon: String

    /// What is carried between two interfaces.
    public init(uplink: String, daemon: String) {
        self.uplink = uplink
        self.daemon = daemon
    }

    /// The name of the subcommand that runs it.
    public static let subcommand = "farewell"

    /// How to have it run by a process of its own, processes to follow; `nil` where this program can't be found.
    var command: [String]? {
        guard let program = Self.program else { return nil }
        return [program, Self.subcommand, uplink, daemon]
    }

    /// This program. One that was replaced has its successor where it was.
    private static let program: String? = {
        guard let path = targetOfLink("/proc/self/exe") else { return nil }
        let gone = " (deleted)"
        return path.hasSuffix(gone) ? String(path.dropLast(gone.count)) : path
    }()

    // MARK: - Carrying

    /// How long processes may take to end in good order, and all of it at most, nanoseconds.
    private static let patience: UInt64 = 1_000_000_000
    private static let longest: UInt64 = 2_000_000_000
    /// How long it has to be silent after they ended, nanoseconds: longer than TCP waits before it says something again.
    private static let silence: UInt64 = 250_000_000
    /// Frames of up to 64 KiB left to be segmented, and the header that says so (`struct virtio_net_hdr`).
    private static let bufferSize = 66_000
    private static let headSize = 10

    /// Ends processes, and carries what is said of it.
    public func run(_ processes: [Int32]) {
        let ways = [(daemon, uplink), (uplink, daemon)].compactMap(Way.init)
        for pid in processes { kill(pid, SIGTERM) }
        let began = monotonicNanoseconds()
        var last = began
        var hasKilled = false
        var buffer = [UInt8](repeating: 0, count: Self.bufferSize)
        while true {
            let now = monotonicNanoseconds()
            let left = processes.filter { RunningProcess($0).name != nil }
            if left.isEmpty, now - last > Self.silence || ways.count < 2 { return }
            if now - began > Self.longest { return }
            if !hasKilled, now - began > Self.patience {
                for pid in left { kill(pid, SIGKILL) }
                hasKilled = true
            }
            var polls = ways.map { pollfd(fd: $0.from.number, events: Int16(POLLIN), revents: 0) }
            poll(&polls, nfds_t(polls.count), 10)
            for way in ways where way.carry(&buffer) { last = monotonicNanoseconds() }
        }
    }

    /// One direction.
    private struct Way {
        let from: Descriptor
        let to: Descriptor

        init?(_ from: String, _ to: String) {
            let indices = [from, to].map { (name: String) in cl_interface_index(name) }
            let ends = [cl_packet_socket(indices[0], 1 << 20), cl_packet_sender(indices[1], 1 << 20)]
            let descriptors = ends.filter { $0 >= 0 }.map { Descriptor($0) }
            guard indices.allSatisfy({ $0 > 0 }), descriptors.count == 2 else { return nil }
            (self.from, self.to) = (descriptors[0], descriptors[1])
            // The port's MAC is none of the interface's.
            _ = cl_interface_promiscuous(self.from.number, indices[0])
        }

        /// Carries what is there; whether that was anything.
        func carry(_ buffer: inout [UInt8]) -> Bool {
            var hasCarried = false
            while case let count = recv(from.number, &buffer, buffer.count, 0), count > Farewell.headSize {
                guard Farewell.isOfSessions(buffer.span.bytes.extracting(Farewell.headSize..<count)) else { continue }
                hasCarried = send(to.number, buffer, count, 0) == count || hasCarried
            }
            return hasCarried
        }
    }

    /// The port of BGP (RFC 4271), and that of BFD on one link (RFC 5881).
    private static let (bgp, bfd): (UInt16, UInt16) = (179, 3784)

    /// Whether a frame is of a daemon's sessions with its neighbors.
    static func isOfSessions(_ frame: RawSpan) -> Bool {
        var layout = PacketLayout()
        let key = FlowKey(parsing: frame, layout: &layout)
        switch key.ipProtocol {
        case IPProtocol.tcp: return key.sourcePort == bgp || key.destinationPort == bgp
        case IPProtocol.udp: return key.destinationPort == bfd
        default: return false
        }
    }
}
