// SPDX-License-Identifier: Apache-2.0

/// Netlink messages encoded one behind the other in one piece of memory, to be sent together. For the packet path: no
/// allocation, no copy but that of the payload.
struct MessageBuffer {
    let base: UnsafeMutableRawPointer
    let capacity: Int
    private(set) var count = 0
    private var messageStart = 0
    /// Whether the message at hand did not fit, or an attribute of it is longer than its 16 bits can say.
    private var isOverfull = false

    init(capacity: Int) {
        base = .allocate(byteCount: capacity, alignment: 16)
        self.capacity = capacity
    }

    func free() { base.deallocate() }

    /// Whether `bytes` more fit, with room for attribute headers.
    func hasRoom(for bytes: Int) -> Bool { count + bytes + 1024 <= capacity }

    mutating func reset() { count = 0 }

    /// Begins a generic netlink message with the header of the ovs families. What the kernel says of it has its `sequence`.
    mutating func begin(
        family: UInt16, command: UInt8, version: UInt8, flags: UInt16, datapath: Int32, sequence: UInt32
    ) {
        messageStart = count
        isOverfull = false
        put(UInt32(0))
        put(family)
        put(flags)
        put(sequence)
        put(UInt32(0))
        put(command)
        put(version)
        put(UInt16(0))
        put(datapath)
    }

    /// Ends the message; one that did not fit is taken back, and false returned.
    mutating func end() -> Bool {
        if isOverfull {
            count = messageStart
            return false
        }
        base.storeBytes(of: UInt32(count - messageStart), toByteOffset: messageStart, as: UInt32.self)
        return true
    }

    mutating func put<Value: BitwiseCopyable>(_ value: Value) {
        guard takes(MemoryLayout<Value>.size) else { return }
        base.storeBytes(of: value, toByteOffset: count, as: Value.self)
        count += MemoryLayout<Value>.size
    }

    /// An attribute of a number in host order; multi-byte header fields are to be given in network order.
    mutating func attribute<Value: BitwiseCopyable>(_ type: UInt16, _ value: Value) {
        header(type, MemoryLayout<Value>.size)
        put(value)
        pad()
    }

    mutating func attribute(_ type: UInt16, bytes: UnsafeRawBufferPointer) {
        header(type, bytes.count)
        guard takes(bytes.count) else { return }
        if let start = bytes.baseAddress { (base + count).copyMemory(from: start, byteCount: bytes.count) }
        count += bytes.count
        pad()
    }

    /// An attribute without payload.
    mutating func flag(_ type: UInt16) { header(type, 0) }

    /// Begins an attribute that holds attributes; returns what ``endNest(_:)`` takes.
    mutating func beginNest(_ type: UInt16) -> Int {
        let start = count
        header(type, 0)
        return start
    }

    mutating func endNest(_ start: Int) {
        // When the message is overfull `start` may be where nothing was written.
        guard !isOverfull else { return }
        guard count - start <= Int(UInt16.max) else {
            isOverfull = true
            return
        }
        base.storeBytes(of: UInt16(truncatingIfNeeded: count - start), toByteOffset: start, as: UInt16.self)
    }

    private mutating func header(_ type: UInt16, _ length: Int) {
        put(UInt16(truncatingIfNeeded: length + 4))
        put(type)
    }

    private mutating func takes(_ bytes: Int) -> Bool {
        if count + bytes > capacity { isOverfull = true }
        return !isOverfull
    }

    private mutating func pad() {
        while count % 4 != 0, !isOverfull { put(UInt8(0)) }
    }
}
