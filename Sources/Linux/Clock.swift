// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// `CLOCK_MONOTONIC` in nanoseconds.
@inlinable
public func monotonicNanoseconds() -> UInt64 { cl_monotonic_ns() }

/// Seconds of the Unix epoch, by the wall.
public func wallSeconds() -> Int64 { Int64(time(nil)) }
