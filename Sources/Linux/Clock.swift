// SPDX-License-Identifier: Apache-2.0
import CLinux

/// `CLOCK_MONOTONIC` in nanoseconds.
@inlinable
public func monotonicNanoseconds() -> UInt64 { cl_monotonic_ns() }
