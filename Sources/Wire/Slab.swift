// SPDX-License-Identifier: Apache-2.0

/// Memory for many values of one type at places that never move: it grows by chunks, and what is freed is used again.
///
/// A place must be initialized before it is read, and deinitialized before it is freed or the slab ends; for plain records
/// neither means anything.
@frozen
public struct Slab<Element>: ~Copyable {
    @inlinable static var chunkSize: Int { 1024 }
    @usableFromInline var chunks: [UnsafeMutablePointer<Element>] = []
    @usableFromInline var free: [Int32] = []
    @usableFromInline var used = 0

    /// An empty slab.
    @inlinable
    public init() {}

    @inlinable
    deinit {
        for chunk in chunks { chunk.deallocate() }
    }

    /// Takes a place; what is in it is not defined.
    @inlinable
    public mutating func take() -> Int32 {
        if let place = free.popLast() { return place }
        if used == chunks.count * Slab.chunkSize { chunks.append(.allocate(capacity: Slab.chunkSize)) }
        used += 1
        return Int32(used - 1)
    }

    /// Gives a place back.
    @inlinable
    public mutating func give(back place: Int32) { free.append(place) }

    /// A place's memory.
    @inlinable @inline(__always)
    public subscript(_ place: Int32) -> UnsafeMutablePointer<Element> {
        chunks[Int(place) / Slab.chunkSize] + Int(place) % Slab.chunkSize
    }

    /// Places ever taken are below this.
    @inlinable public var end: Int32 { Int32(used) }
}
