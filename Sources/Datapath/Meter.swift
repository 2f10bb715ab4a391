// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// How much a meter lets through: a bucket of bits that fills at a rate.
public struct MeterSpecification: Sendable, Hashable {
    /// Bits a second from the Ethernet header on, in thousands; at least 1.
    public var kilobits: UInt32
    /// Bytes that may pass at once after a pause; at least ``shortestBurst``.
    public var burst: UInt32

    /// Packets that are still to be segmented count as one: less than this some would never pass.
    public static let shortestBurst: UInt32 = 65_536 + 1024

    /// A meter of a rate and a burst.
    public init(kilobits: UInt32, burst: UInt32) {
        self.kilobits = max(1, kilobits)
        self.burst = max(burst, MeterSpecification.shortestBurst)
    }
}

/// A meter's bucket, of all packet threads together.
final class MeterBucket: Sendable {
    private struct State {
        var specification: MeterSpecification
        /// Thousandths of bits that may pass: what a rate of thousands gives in whole microseconds, nothing rounded.
        var level: UInt64
        /// Nanoseconds.
        var last: UInt64 = 0
    }
    private let state: Mutex<State>

    init(_ specification: MeterSpecification) {
        state = Mutex(State(specification: specification, level: UInt64(specification.burst) * 8000))
    }

    /// Goes on by another specification, with what is left.
    func set(_ specification: MeterSpecification) {
        state.withLock { state in
            state.specification = specification
            state.level = min(state.level, UInt64(specification.burst) * 8000)
        }
    }

    /// Whether a packet passes.
    ///
    /// - Parameter now: nanoseconds of a clock that only goes on.
    func passes(bytes: Int, now: UInt64) -> Bool {
        state.withLock { state in
            let most = UInt64(state.specification.burst) * 8000
            let passed = now > state.last ? min((now - state.last) / 1000, 3_600_000_000) : 0
            state.level = min(most, state.level + passed * UInt64(state.specification.kilobits))
            // What is less than a microsecond is counted the next time.
            state.last = state.level == most ? max(state.last, now) : state.last + passed * 1000
            let cost = UInt64(bytes) * 8000
            guard state.level >= cost else { return false }
            state.level -= cost
            return true
        }
    }
}
