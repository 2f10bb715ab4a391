// SPDX-License-Identifier: Apache-2.0
import Foundation

/// A small deterministic generator (SplitMix64). A property test draws its seed anew each run and prints it when it fails;
/// `SELVAGE_SEED=n swift test` replays it.
public struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    /// A generator that begins at a seed.
    public init(seed: UInt64) { state = seed }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// The seed of this run.
    public static let seed: UInt64 =
        ProcessInfo.processInfo.environment["SELVAGE_SEED"].flatMap(UInt64.init) ?? UInt64.random(in: 1...UInt64.max)
}
