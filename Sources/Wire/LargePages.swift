// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Memory that the system gives as zeros, in large pages if it has them: each look at a table of many falls on a page of its
/// own, and finding the page would cost as much as what is on it.
@usableFromInline
enum LargePages {
    /// Bytes of a large page.
    @usableFromInline static var size: Int { 2 << 20 }

    /// So many bytes, at least one large page, from the beginning of a large page on. Where the system has no memory at all,
    /// nothing can go on.
    @usableFromInline
    static func take(_ bytes: Int) -> UnsafeMutableRawPointer {
        let room = bytes + size
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard let memory = mmap(nil, room, PROT_READ | PROT_WRITE, flags, -1, 0), memory != MAP_FAILED else {
            fatalError("out of memory")
        }
        // What lies before the first large page, and behind the last, goes back.
        let before = -Int(bitPattern: memory) & (size - 1)
        let start = memory + before
        if before > 0 { munmap(memory, before) }
        if before < size { munmap(start + bytes, size - before) }
        madvise(start, bytes, MADV_HUGEPAGE)
        return start
    }

    /// Gives back what was taken.
    @usableFromInline
    static func give(back start: UnsafeMutableRawPointer, _ bytes: Int) { munmap(start, bytes) }
}
