// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// Where a packet thread best runs while packets come one by one.
///
/// A sleeping thread is woken on an idle processor where there is one, and waking a processor from its idle state takes
/// longer than all the rest of a packet's way. A packet's sender, though, runs already, and mostly waits for the answer:
/// on its processor the thread runs as soon as the sender sleeps. So, while packets come singly, the thread is kept where
/// they come from; when they come in bursts, or when it has to wait there for the processor, it is set free.
///
/// Pure: what the kernel counts is handed in.
struct LocalityPolicy {
    /// What happened in one tick.
    struct Sample {
        /// Times that the thread slept and was woken by packets.
        var wakes: Int
        /// Packets that it took.
        var packets: Int
        /// Packets that came in on each processor, in the whole machine.
        var arrivals: [Int: UInt64]
        /// The processor that the thread runs on.
        var processor: Int
        /// How long it was ready to run and did not, nanoseconds.
        var waited: UInt64
        /// Monotonic nanoseconds.
        var now: UInt64
    }
    enum Decision: Equatable {
        case stay
        case move(Int)
        case free
    }

    /// Fewer wakes in a tick tell nothing.
    static let enoughWakes = 5
    /// More packets for each wake are a burst.
    static let packetsPerWake = 6
    /// The longest mean wait for the processor, nanoseconds; waking an idle processor takes about as long.
    static let tolerableWait: UInt64 = 40_000
    private static let shortestPause: UInt64 = 1_000_000_000
    private static let longestPause: UInt64 = 60_000_000_000

    private(set) var isHeld = false
    private var freeUntil: UInt64 = 0
    private var pause = LocalityPolicy.shortestPause

    mutating func decide(_ sample: Sample) -> Decision {
        guard sample.wakes >= LocalityPolicy.enoughWakes,
            sample.packets <= sample.wakes * LocalityPolicy.packetsPerWake
        else { return release() }
        if isHeld, sample.waited / UInt64(sample.wakes) > LocalityPolicy.tolerableWait {
            // The processor is busy with other things. Each time that this is found the next try is put off for longer.
            freeUntil = sample.now + pause
            pause = min(pause * 2, LocalityPolicy.longestPause)
            return release()
        }
        guard sample.now >= freeUntil else { return .stay }
        // Packets that came in elsewhere, about one for each wake: those are the ones that woke us.
        let elsewhere = sample.arrivals.filter { $0.key != sample.processor }
        if let most = elsewhere.max(by: { ($0.value, $1.key) < ($1.value, $0.key) }),
            most.value * 4 >= UInt64(sample.wakes) * 3
        {
            isHeld = true
            return .move(most.key)
        }
        if isHeld { return .stay }
        // They come from where we are.
        isHeld = true
        return .move(sample.processor)
    }

    mutating func release() -> Decision {
        guard isHeld else { return .stay }
        isHeld = false
        return .free
    }
}

/// Carries the policy out for one packet thread; to be made and used on that thread.
struct Locality: ~Copyable {
    private var policy = LocalityPolicy()
    private let arrivalsFile: Int32
    private let waitFile: Int32
    private var arrivals: [Int: UInt64] = [:]
    private var waited: UInt64 = 0
    private var destination: Int?

    /// Nothing happens on a machine with one processor, or where the kernel does not tell what it counts.
    init() {
        arrivalsFile = open("/proc/net/softnet_stat", O_RDONLY | O_CLOEXEC)
        waitFile = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)
    }

    deinit {
        if arrivalsFile >= 0 { close(arrivalsFile) }
        if waitFile >= 0 { close(waitFile) }
    }

    var isHeld: Bool { policy.isHeld }

    /// To be called once a tick.
    mutating func tick(wakes: Int, packets: Int, now: UInt64) {
        // Counters are read only while there is something to decide; then twice, for what happened between.
        guard arrivalsFile >= 0, waitFile >= 0, wakes >= LocalityPolicy.enoughWakes else {
            arrivals = [:]
            return carryOut(policy.release())
        }
        let before = (arrivals, waited)
        arrivals = Locality.arrivals(in: text(of: arrivalsFile))
        waited = Locality.wait(in: text(of: waitFile))
        guard !before.0.isEmpty, arrivals.count > 1 else { return }
        let processor = Int(cl_current_processor())
        // The kernel counts in 32 bits.
        let change = arrivals.map { number, count in
            (number, UInt64(UInt32(truncatingIfNeeded: count &- (before.0[number] ?? count))))
        }
        carryOut(
            policy.decide(
                .init(
                    wakes: wakes, packets: packets, arrivals: Dictionary(change, uniquingKeysWith: { a, _ in a }),
                    processor: processor, waited: waited &- before.1, now: now)))
    }

    /// Whether the thread is to move as soon as no packet came for a while. In the midst of them the sender would be found
    /// running, two threads would want one processor while the other has just become idle, and the balance between them
    /// would carry the sender away at once.
    var wantsQuiet: Bool { destination != nil }

    /// No packet came for a while.
    mutating func moveInQuiet() {
        if let processor = destination { cl_run_on(Int32(processor)) }
        destination = nil
    }

    /// Packets come in bursts: the thread needs a processor of its own, now.
    mutating func letGo() { carryOut(policy.release()) }

    private mutating func carryOut(_ decision: LocalityPolicy.Decision) {
        switch decision {
        case .stay: break
        case .move(let processor): destination = processor
        case .free:
            destination = nil
            cl_run_anywhere()
        }
    }

    private func text(of file: Int32) -> String {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = pread(file, &buffer, buffer.count, 0)
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    }

    /// Packets that came in by processor, of `/proc/net/softnet_stat`: hexadecimal columns, the first one that count, the
    /// thirteenth the processor's number where the kernel tells it.
    static func arrivals(in text: String) -> [Int: UInt64] {
        var result: [Int: UInt64] = [:]
        for (line, row) in text.split(separator: "\n").enumerated() {
            let columns = row.split(separator: " ")
            guard let first = columns.first, let count = UInt64(first, radix: 16) else { continue }
            let number = columns.count > 12 ? Int(columns[12], radix: 16) ?? line : line
            result[number] = count
        }
        return result
    }

    /// Nanoseconds of waiting for a processor, of `/proc/thread-self/schedstat`.
    static func wait(in text: String) -> UInt64 {
        let columns = text.split(separator: " ")
        return columns.count > 1 ? UInt64(columns[1]) ?? 0 : 0
    }
}
