// SPDX-License-Identifier: Apache-2.0
import CLinux
import Wire

/// The buffers that a worker reads bursts into.
final class Receiver {
    private let frames: UnsafeMutableRawPointer
    private let messages: UnsafeMutablePointer<cl_message>
    private let pieces: UnsafeMutablePointer<iovec>
    private let heads: UnsafeMutablePointer<cl_offload>
    private let names: UnsafeMutableRawPointer
    private let controls: UnsafeMutableRawPointer
    private let slots: UnsafeMutablePointer<cl_ring_frame>
    /// Frames too large for a slot, read from the queue: the next one and how many there are.
    private var nextQueued = 0
    private var queuedCount = 0

    /// Bytes before a frame in a slot that may be written once its head is read: the head and what `cl_ring_open` reserves.
    private static let slotHeadroom = 24
    private static let nameSize = 16
    private static let controlSize = CL_CONTROL_SIZE

    init() {
        let n = UserspaceLimits.burst
        frames = .allocate(byteCount: n * UserspaceLimits.stride, alignment: 64)
        messages = .allocate(capacity: n)
        pieces = .allocate(capacity: 2 * n)
        heads = .allocate(capacity: n)
        names = .allocate(byteCount: n * Receiver.nameSize, alignment: 16)
        controls = .allocate(byteCount: n * Receiver.controlSize, alignment: 16)
        heads.initialize(repeating: cl_offload(), count: n)
        slots = .allocate(capacity: n)
        slots.initialize(repeating: cl_ring_frame(), count: n)
        for index in 0..<n {
            (pieces + 2 * index).initialize(
                to: iovec(iov_base: heads + index, iov_len: MemoryLayout<cl_offload>.size))
            (pieces + 2 * index + 1).initialize(
                to: iovec(iov_base: frame(index), iov_len: UserspaceLimits.frameSize))
            (messages + index).initialize(
                to: cl_message(
                    name: nil, name_length: 0, iov: nil, iov_count: 0, control: nil, control_length: 0, flags: 0,
                    padding: 0,
                    length: 0))
        }
    }

    deinit {
        frames.deallocate()
        messages.deallocate()
        pieces.deallocate()
        heads.deallocate()
        names.deallocate()
        controls.deallocate()
        slots.deallocate()
    }

    private func frame(_ index: Int) -> UnsafeMutableRawPointer {
        frames + index * UserspaceLimits.stride + UserspaceLimits.headroom
    }

    /// Reads up to a burst; returns how many came. Each must be gone through with `forEachFrame`, then `release` be called.
    func receive(_ port: WorkerPort) -> Int {
        guard port.encapsulation == .none else {
            return readQueue(port.descriptor, upTo: UserspaceLimits.burst, isPacket: false)
        }
        guard let ring = port.ring else { return 0 }
        let count = Int(cl_ring_peek(ring, slots, UInt32(UserspaceLimits.burst)))
        if count == 0 {
            // Something else made it readable: an error of the interface, or a frame that lost its slot. Left in the queue
            // it would wake us for ever.
            _ = readQueue(port.descriptor, upTo: UserspaceLimits.burst, isPacket: true)
            return 0
        }
        var queued = 0
        for index in 0..<count where slots[index].is_queued != 0 { queued += 1 }
        nextQueued = 0
        queuedCount = queued == 0 ? 0 : readQueue(port.descriptor, upTo: queued, isPacket: true)
        return count
    }

    /// Gives the slots of a burst back. What is queued to be sent must have been sent.
    func release(_ port: WorkerPort, _ count: Int) {
        if let ring = port.ring { cl_ring_release(ring, UInt32(count)) }
    }

    private func readQueue(_ descriptor: Int32, upTo limit: Int, isPacket: Bool) -> Int {
        for index in 0..<limit {
            // The kernel overwrites lengths with what it wrote.
            messages[index].iov = pieces + (isPacket ? 2 * index : 2 * index + 1)
            messages[index].iov_count = isPacket ? 2 : 1
            messages[index].control = isPacket ? nil : controls + index * Receiver.controlSize
            messages[index].control_length = isPacket ? 0 : Receiver.controlSize
            messages[index].name = isPacket ? nil : names + index * Receiver.nameSize
            messages[index].name_length = isPacket ? 0 : UInt32(Receiver.nameSize)
        }
        return max(0, Int(cl_receive(descriptor, messages, UInt32(limit))))
    }

    /// Calls `body` with each frame that message `index` holds, parsed, tunnel fields filled in; returns the bytes of all.
    @inline(__always)
    func forEachFrame(in index: Int, _ port: WorkerPort, _ body: (inout FrameInHand) -> Void) -> Int {
        switch port.encapsulation {
        case .none:
            var hand = FrameInHand(
                start: slots[index].start, count: Int(slots[index].captured), headroom: Receiver.slotHeadroom,
                offload: Offload(), layout: PacketLayout(), key: FlowKey(), length: 0)
            if slots[index].captured < slots[index].length {
                // The slot holds its beginning. When the queue was full, that is all there is.
                guard slots[index].is_queued != 0, nextQueued < queuedCount else { return 0 }
                hand.start = frame(nextQueued)
                hand.count = Int(messages[nextQueued].length) - MemoryLayout<cl_offload>.size
                hand.headroom = UserspaceLimits.headroom
                hand.offload = offload(heads[nextQueued])
                nextQueued += 1
            } else {
                hand.offload = offload(
                    (hand.start - MemoryLayout<cl_offload>.size).loadUnaligned(as: cl_offload.self))
            }
            guard hand.count >= 14 else { return 0 }
            let tag = slots[index].vlan
            if tag >= 0 {
                hand.insertTag(
                    tpid: UInt16(truncatingIfNeeded: tag >> 16), tci: UInt16(truncatingIfNeeded: tag), reparse: false)
            }
            let count = hand.count
            hand.parse()
            body(&hand)
            return count
        case .greCollector, .erspanCollector: return 0
        case .gre: return decapsulateGRE(frame(index), Int(messages[index].length), port, body)
        case .vxlan: return decapsulateVXLAN(index, frame(index), Int(messages[index].length), port, body)
        }
    }

    private func decapsulateGRE(
        _ start: UnsafeMutableRawPointer, _ length: Int, _ port: WorkerPort, _ body: (inout FrameInHand) -> Void
    ) -> Int {
        let bytes = UnsafeRawBufferPointer(start: start, count: length)
        // A raw socket delivers the outer IPv4 header too.
        guard length >= 20 else { return 0 }
        let header = Int(bytes[0] & 15) * 4
        guard header >= 20, length > header,
            let (key, greLength) = GRE.parse(UnsafeRawBufferPointer(rebasing: bytes[header...]).bytes)
        else { return 0 }
        let offset = header + greLength
        guard length >= offset + 14 else { return 0 }
        let source = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        var hand = FrameInHand(
            start: start + offset, count: length - offset, headroom: offset, offload: Offload(),
            layout: PacketLayout(), key: FlowKey(), length: 0)
        hand.parse()
        hand.setTunnel(id: key, source: source, destination: port.local, tos: bytes[1], ttl: bytes[8])
        body(&hand)
        return hand.count
    }

    private func decapsulateVXLAN(
        _ index: Int, _ start: UnsafeMutableRawPointer, _ length: Int, _ port: WorkerPort,
        _ body: (inout FrameInHand) -> Void
    ) -> Int {
        let joined = Int(cl_gro_size_of(messages + index))
        let name = names + index * Receiver.nameSize
        let source = UInt32(bigEndian: name.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        var at = 0
        var total = 0
        while at < length {
            let size = joined > 0 ? min(joined, length - at) : length
            if size >= VXLAN.headerLength + 14,
                let vni = VXLAN.parse(UnsafeRawBufferPointer(start: start + at, count: size).bytes)
            {
                var hand = FrameInHand(
                    start: start + at + VXLAN.headerLength, count: size - VXLAN.headerLength,
                    headroom: VXLAN.headerLength, offload: Offload(), layout: PacketLayout(), key: FlowKey(), length: 0)
                hand.parse()
                hand.setTunnel(id: vni, source: source, destination: port.local, tos: 0, ttl: 0)
                body(&hand)
                total += hand.count
            }
            at += size
        }
        return total
    }

    @inline(__always)
    private func offload(_ head: cl_offload) -> Offload {
        var offload = Offload()
        offload.flags = head.flags & 1
        offload.segmentation = head.gso_type
        offload.headerLength = head.header_length
        offload.segmentSize = head.gso_size
        offload.checksumStart = head.checksum_start
        offload.checksumOffset = head.checksum_offset
        return offload
    }
}

extension FrameInHand {
    /// Reads the frame into key and layout, and the true length of its headers into the offload: what the kernel says
    /// there is only a hint.
    @inline(__always)
    mutating func parse() {
        let kept = (key.words[0], key.words[1])
        key = FlowKey(parsing: UnsafeRawBufferPointer(bytes).bytes, layout: &layout)
        (key.words[0], key.words[1]) = kept
        if offload.segmentation & 0x7f != 0 {
            let transport = Int(layout.transport)
            let isUDP = offload.segmentation & 0x7f == 5
            let header = isUDP ? 8 : transport + 13 <= count ? Int(bytes[transport + 12] >> 4) * 4 : 0
            offload.headerLength = transport == 0 ? 0 : UInt16(truncatingIfNeeded: transport + header)
        }
        length = layer3Length(layout, frameLength: count, offload: offload)
    }

    mutating func setTunnel(id: UInt32, source: UInt32, destination: UInt32, tos: UInt8, ttl: UInt8) {
        key.tunnelID = UInt64(id)
        key.tunnelSourceWords = (UInt64(source) << 32, 0)
        key.tunnelDestinationWords = (UInt64(destination) << 32, 0)
        key.tunnelTOS = tos
        key.tunnelTTL = ttl
        key.tunnelFlags = TunnelFlags.key
    }

    /// Puts a VLAN tag behind the addresses. Needs four bytes of headroom.
    mutating func insertTag(tpid: UInt16, tci: UInt16, reparse: Bool = true) {
        let moved = start - 4
        moved.copyMemory(from: start, byteCount: 12)
        moved.storeBytes(of: tpid.bigEndian, toByteOffset: 12, as: UInt16.self)
        moved.storeBytes(of: tci.bigEndian, toByteOffset: 14, as: UInt16.self)
        start = moved
        count += 4
        headroom -= 4
        shiftLayers(by: 4)
        if reparse { relayout() }
    }

    /// Takes the outer VLAN tag off, if there is one.
    mutating func removeTag() {
        guard count >= 18 else { return }
        let type = UInt16(bigEndian: start.loadUnaligned(fromByteOffset: 12, as: UInt16.self))
        guard type == EtherType.vlan || type == EtherType.serviceVLAN else { return }
        memmove12()
        shiftLayers(by: -4)
        relayout()
    }

    private mutating func memmove12() {
        // From the end, because the two places overlap.
        let addresses = (
            start.loadUnaligned(as: UInt64.self), start.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        )
        start += 4
        start.storeBytes(of: addresses.0, as: UInt64.self)
        start.storeBytes(of: addresses.1, toByteOffset: 8, as: UInt32.self)
        count -= 4
        headroom += 4
    }

    private mutating func shiftLayers(by delta: Int) {
        if offload.hasPartialChecksum {
            offload.checksumStart = UInt16(truncatingIfNeeded: Int(offload.checksumStart) + delta)
        }
        if offload.headerLength != 0 {
            offload.headerLength = UInt16(truncatingIfNeeded: Int(offload.headerLength) + delta)
        }
    }

    private mutating func relayout() {
        _ = FlowKey(parsing: UnsafeRawBufferPointer(bytes).bytes, layout: &layout)
    }
}
