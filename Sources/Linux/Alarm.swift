// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// Wakes a thread at a time, or sooner.
public final class Alarm: Sendable {
    private let event: Descriptor

    /// One that does not ring.
    public init() throws(SystemError) {
        event = Descriptor(try SystemError.check(cl_eventfd(), "make an event"))
    }

    /// Ends the present wait, or the next one at once.
    public func ring() { cl_eventfd_signal(event.number) }

    /// The same, or until a descriptor can be read.
    public func wait(until due: UInt64, or descriptor: Int32) {
        let now = monotonicNanoseconds()
        let milliseconds = due <= now ? 0 : min((due - now + 999_999) / 1_000_000, 3_600_000)
        var list = [
            pollfd(fd: event.number, events: Int16(POLLIN), revents: 0),
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
        ]
        if poll(&list, 2, Int32(milliseconds)) > 0, list[0].revents != 0 { cl_eventfd_drain(event.number) }
    }

    /// Waits until a time by ``monotonicNanoseconds()``, or until ``ring()``; to the millisecond, and not too soon.
    public func wait(until due: UInt64) {
        let now = monotonicNanoseconds()
        let milliseconds = due <= now ? 0 : min((due - now + 999_999) / 1_000_000, 3_600_000)
        if waitReadable(event.number, timeoutMilliseconds: Int32(milliseconds)) { cl_eventfd_drain(event.number) }
    }
}
