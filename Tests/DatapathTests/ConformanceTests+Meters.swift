// SPDX-License-Identifier: Apache-2.0
import Datapath
import Glibc
import Linux
import TestSupport
import Testing
import Wire

/// What meters let through, of every engine.
extension ConformanceTests {
    @Test(arguments: Engines.all)
    func `a meter lets its rate and burst through, and no more, and what follows it is done all the same`(
        _ kind: DatapathKind
    ) throws {
        try Bench.run(kind) { bench in
            let (rate, burst) = (UInt32(16_000), UInt32(100_000))
            let meter = MeterNumber(7)
            try bench.datapath.setMeter(meter, MeterSpecification(kilobits: rate, burst: burst))
            bench.install(
                flow(
                    udp(), at: bench.numbers[0], [.etherType],
                    [.metered(meter, [.output(bench.numbers[1])]), .output(bench.numbers[2])]))
            func sent(_ place: Int) throws -> UInt64 {
                try bench.datapath.ports().first { $0.number == bench.numbers[place] }?.sentBytes ?? 0
            }
            func send(for nanoseconds: UInt64) throws -> (metered: Double, free: Double, seconds: Double) {
                let before = (try sent(1), try sent(2))
                let began = monotonicNanoseconds()
                while monotonicNanoseconds() < began + nanoseconds {
                    // Faster than the rate, and not much more than an engine can read.
                    for _ in 0..<8 { try bench.send(udp(size: 1000), into: 0) }
                    usleep(1000)
                }
                let seconds = Double(monotonicNanoseconds() - began) / 1e9
                try wait("the last packet to be through") {
                    let now = try sent(2)
                    usleep(50_000)
                    return try sent(2) == now
                }
                return (Double(try sent(1) - before.0), Double(try sent(2) - before.1), seconds)
            }
            let found = try send(for: 2_000_000_000)
            let most = Double(burst) + Double(rate) * 125 * found.seconds
            #expect(found.free > 1.3 * most, "it was not more than the meter lets through")
            #expect(abs(found.metered - most) < 0.05 * most, "\(found.metered) of \(most) bytes")
            // Another rate from now on; what is not there lets all through.
            try bench.datapath.setMeter(meter, MeterSpecification(kilobits: 4 * rate, burst: burst))
            let more = try send(for: 1_000_000_000)
            #expect(more.metered > 1.5 * found.metered * more.seconds / found.seconds)
            try bench.datapath.removeMeter(meter)
            try bench.datapath.removeMeter(meter)
            let all = try send(for: 500_000_000)
            #expect(all.metered == all.free && all.free > 0)
        }
    }

    @Test(arguments: Engines.all)
    func `a meter ahead of everything stops everything`(_ kind: DatapathKind) throws {
        try Bench.run(kind) { bench in
            let meter = MeterNumber(3)
            try bench.datapath.setMeter(meter, MeterSpecification(kilobits: 1, burst: 0))
            bench.install(
                flow(
                    udp(), at: bench.numbers[0], [.etherType],
                    [
                        .checkLength(
                            limit: 1400, tooLong: [.userspace(cookie: 5)],
                            fits: [.metered(meter, [.output(bench.numbers[1]), .output(bench.numbers[2])])])
                    ]))
            // The kernel itself says this and that by an interface, which counts as sent.
            let most = UInt64(MeterSpecification.shortestBurst) / 1042
            func sent() throws -> [UInt64] {
                let ports = try bench.datapath.ports()
                return [1, 2].map { place in ports.first { $0.number == bench.numbers[place] }?.sentPackets ?? 0 }
            }
            let before = try sent()
            for _ in 0..<200 { try bench.send(udp(size: 1000), into: 0) }
            try wait("the bucket to be empty") { try sent().allSatisfy { $0 >= most } }
            usleep(100_000)
            let passed = zip(try sent(), before).map { $0 - $1 }
            #expect(passed.allSatisfy { (most...most + 20).contains($0) }, "\(passed) of 200, \(most) were to pass")
        }
    }
}
