// SPDX-License-Identifier: Apache-2.0
import CLinux
import Wire

/// Frames on their way out of one port of one packet thread: sent together when the burst is through.
struct SendQueue {
    /// What a port does to a frame before it is on the wire.
    enum Encapsulation: UInt8 {
        /// A packet socket: the frame itself, checksum and segmentation left to the kernel.
        case none
        /// A raw socket of protocol 47.
        case gre
        /// UDP sockets.
        case vxlan
        /// A raw socket of protocol 47, to a host outside that looks at copies.
        case greCollector
        case erspanCollector

        var isCollector: Bool { self == .greCollector || self == .erspanCollector }
    }

    static let capacity = UserspaceLimits.burst

    /// The sockets that frames leave by: flows share them, and all packets of one flow leave by one.
    private let senders: UnsafeMutableBufferPointer<Int32>
    /// The place in ``senders`` of each frame's socket, and a bit for each place that has frames.
    private let ways: UnsafeMutablePointer<UInt8>
    private var used: UInt64 = 0

    private let messages: UnsafeMutablePointer<cl_message>
    /// Room for those messages that leave by one socket, where there are some.
    private let chosen: UnsafeMutablePointer<cl_message>
    private let pieces: UnsafeMutablePointer<iovec>
    /// A virtio header or an outer header for each frame.
    private let heads: UnsafeMutableRawPointer
    private let names: UnsafeMutableRawPointer
    private let controls: UnsafeMutableRawPointer
    private(set) var count = 0
    /// Bytes of all frames in the queue.
    private var bytes = 0

    private static let headSize = 16
    private static let offloadSize = MemoryLayout<cl_offload>.size
    private static let nameSize = 16
    private static let controlSize = 48

    /// A queue whose frames leave by some of the sockets, 1 to 64; they stay the caller's.
    init(senders: [Int32]) {
        precondition((1...64).contains(senders.count), "a send queue needs a socket, and has room for 64")
        self.senders = .allocate(capacity: senders.count)
        _ = self.senders.initialize(from: senders)
        let n = SendQueue.capacity
        ways = .allocate(capacity: n)
        messages = .allocate(capacity: n)
        chosen = .allocate(capacity: n)
        pieces = .allocate(capacity: 2 * n)
        heads = .allocate(byteCount: n * SendQueue.headSize, alignment: 16)
        names = .allocate(byteCount: n * SendQueue.nameSize, alignment: 16)
        controls = .allocate(byteCount: n * SendQueue.controlSize, alignment: 16)
        for index in 0..<n {
            (pieces + 2 * index).initialize(to: iovec(iov_base: heads + index * SendQueue.headSize, iov_len: 0))
            (pieces + 2 * index + 1).initialize(to: iovec(iov_base: nil, iov_len: 0))
            (messages + index).initialize(
                to: cl_message(
                    name: nil, name_length: 0, iov: pieces + 2 * index, iov_count: 2, control: nil, control_length: 0,
                    flags: 0, padding: 0, length: 0))
        }
    }

    func free() {
        senders.deallocate()
        ways.deallocate()
        messages.deallocate()
        chosen.deallocate()
        pieces.deallocate()
        heads.deallocate()
        names.deallocate()
        controls.deallocate()
    }

    var isFull: Bool { count == SendQueue.capacity }

    /// Queues a frame for a packet socket. The bytes, and those of its headroom, must stay as they are until ``flush(_:)``.
    @inline(__always)
    mutating func add(_ start: UnsafeMutableRawPointer, _ length: Int, _ offload: Offload, headroom: Int) {
        // The head goes right before the frame where it can: one piece is quicker to send than two.
        let isOnePiece = headroom >= SendQueue.offloadSize
        let head = isOnePiece ? start - SendQueue.offloadSize : heads + count * SendQueue.headSize
        head.storeBytes(of: offload.flags & 1, as: UInt8.self)
        head.storeBytes(of: offload.segmentation, toByteOffset: 1, as: UInt8.self)
        head.storeBytes(of: offload.headerLength, toByteOffset: 2, as: UInt16.self)
        head.storeBytes(of: offload.segmentSize, toByteOffset: 4, as: UInt16.self)
        head.storeBytes(of: offload.checksumStart, toByteOffset: 6, as: UInt16.self)
        head.storeBytes(of: offload.checksumOffset, toByteOffset: 8, as: UInt16.self)
        let piece = pieces + 2 * count
        if isOnePiece {
            piece[0] = iovec(iov_base: head, iov_len: SendQueue.offloadSize + length)
        } else {
            piece[0] = iovec(iov_base: head, iov_len: SendQueue.offloadSize)
            piece[1] = iovec(iov_base: start, iov_len: length)
        }
        messages[count].iov_count = isOnePiece ? 1 : 2
        used = 1
        bytes += length
        count += 1
    }

    /// Queues a frame for a tunnel's sockets; by which of them it leaves is in the entropy of its flow.
    mutating func add(
        _ start: UnsafeMutableRawPointer, _ length: Int, _ encapsulation: Encapsulation, id: UInt32,
        destination: UInt32, port: UInt16, tos: UInt8, priority: UInt32, sequence: UInt32, isCut: Bool,
        entropy: UInt64
    ) {
        let size = encapsulation == .erspanCollector ? ERSPAN.headerLength : 8
        let head = UnsafeMutableRawBufferPointer(start: heads + count * SendQueue.headSize, count: size)
        switch encapsulation {
        case .gre, .greCollector: GRE.write(key: id, to: head)
        case .erspanCollector:
            let tag = length >= 16 ? UnsafeRawBufferPointer(start: start, count: 16) : nil
            ERSPAN.write(
                session: UInt16(truncatingIfNeeded: id), sequence: sequence, frame: tag, isCut: isCut, to: head)
        case .vxlan: VXLAN.write(vni: id, to: head)
        case .none: preconditionFailure("a packet socket needs no outer header")
        }
        let name = names + count * SendQueue.nameSize
        cl_ipv4_address(name, destination, port)
        messages[count].name = name
        messages[count].name_length = 16
        let isPlain = tos == 0 && priority == 0
        messages[count].control = isPlain ? nil : controls + count * SendQueue.controlSize
        messages[count].control_length =
            isPlain ? 0 : cl_put_header(controls + count * SendQueue.controlSize, tos, priority)
        pieces[2 * count] = iovec(iov_base: head.baseAddress, iov_len: size)
        pieces[2 * count + 1] = iovec(iov_base: start, iov_len: length)
        messages[count].iov_count = 2
        let way = UInt8(truncatingIfNeeded: entropy.multipliedFullWidth(by: UInt64(senders.count)).high)
        ways[count] = way
        used |= 1 << UInt64(way)
        bytes += length
        count += 1
    }

    /// Sends all; returns how many frames and bytes went out and how many did not.
    mutating func flush() -> (sent: Int, bytes: Int, failed: Int) {
        var failed = 0
        if used & (used &- 1) == 0 {
            if used != 0 { failed = send(messages, count, by: senders[used.trailingZeroBitCount]) }
        } else {
            while used != 0 {
                let way = used.trailingZeroBitCount
                used &= used &- 1
                var some = 0
                for index in 0..<count where Int(ways[index]) == way {
                    chosen[some] = messages[index]
                    some += 1
                }
                failed += send(chosen, some, by: senders[way])
            }
        }
        let result = (count - failed, bytes, failed)
        count = 0
        bytes = 0
        used = 0
        return result
    }

    /// Sends messages by one socket; returns how many did not go, whose bytes are taken from those of all.
    private mutating func send(_ messages: UnsafeMutablePointer<cl_message>, _ count: Int, by sender: Int32) -> Int {
        var at = 0
        var failed = 0
        while at < count {
            let result = Int(cl_send(sender, messages + at, UInt32(count - at)))
            if result > 0 {
                at += result
            } else {
                // One frame that the kernel does not take, as when the interface is down, must not hold the others.
                failed += 1
                let message = messages[at]
                for piece in 0..<Int(message.iov_count) { bytes -= message.iov[piece].iov_len }
                // Its head was not counted.
                bytes += message.name == nil ? SendQueue.offloadSize : message.iov[0].iov_len
                at += 1
            }
        }
        return failed
    }
}
