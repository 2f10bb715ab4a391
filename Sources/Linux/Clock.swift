// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// `CLOCK_MONOTONIC` in nanoseconds.
@inlinable
public func monotonicNanoseconds() -> UInt64 { cl_monotonic_ns() }

/// Milliseconds of the Unix epoch, by the wall.
public func wallMilliseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return UInt64(max(0, now.tv_sec)) * 1000 + UInt64(now.tv_nsec / 1_000_000)
}

/// Seconds of the Unix epoch, by the wall.
public func wallSeconds() -> Int64 { Int64(time(nil)) }
