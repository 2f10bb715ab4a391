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
    /// Memory of chunks that lie in large pages.
    @usableFromInline var groups: [UnsafeMutableRawPointer] = []

    /// Chunks that have memory of their own; who has more has many.
    @inlinable static var smallChunks: Int { 4 }
    @inlinable static var chunkBytes: Int { chunkSize * MemoryLayout<Element>.stride }
    /// Chunks that lie in large pages together.
    @inlinable static var groupSize: Int { max(1, LargePages.size / chunkBytes) }
    /// Bytes of such a group: whole large pages.
    @inlinable static var groupBytes: Int { (groupSize * chunkBytes + LargePages.size - 1) & -LargePages.size }

    /// An empty slab.
    @inlinable
    public init() {}

    @inlinable
    deinit {
        for chunk in chunks.prefix(Slab.smallChunks) { chunk.deallocate() }
        for group in groups { LargePages.give(back: group, Slab.groupBytes) }
    }

    /// Takes a place; what is in it is not defined.
    @inlinable
    public mutating func take() -> Int32 {
        if let place = free.popLast() { return place }
        if used == chunks.count * Slab.chunkSize { grow() }
        used += 1
        return Int32(used - 1)
    }

    @inlinable
    mutating func grow() {
        guard chunks.count >= Slab.smallChunks else { return chunks.append(.allocate(capacity: Slab.chunkSize)) }
        let group = LargePages.take(Slab.groupBytes)
        groups.append(group)
        for chunk in 0..<Slab.groupSize {
            let start = group + chunk * Slab.chunkBytes
            chunks.append(start.bindMemory(to: Element.self, capacity: Slab.chunkSize))
        }
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
