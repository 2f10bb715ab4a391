// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Testing
import Wire

@testable import Agent

@Suite struct ParkingLotTests {
    private let port = Simulation.Tag(bits: 9)
    private func query(_ number: UInt32) -> ParkingLot.Query {
        .init(address: IPAddress(IPv4Address(bits: number)), port: port)
    }
    private let parked = ParkingLot.Parked(packet: OwnedPacket(bytes: [1]), origin: .ingress(Simulation.Tag(bits: 1)))

    @Test func `a packet waits until its neighbor is known`() {
        var lot = ParkingLot()
        let answer1 = lot.park(parked, for: query(1), now: 0)
        #expect(answer1)
        let answer2 = lot.park(parked, for: query(1), now: 0)
        #expect(answer2)
        #expect(lot.take([.neighbor(query(2).address, port: port)]).isEmpty)
        #expect(lot.take([.neighbor(query(1).address, port: port)]).count == 2)
        #expect(lot.count == 0)
    }

    @Test func `the neighbor is asked again and again, then given up`() {
        var lot = ParkingLot()
        _ = lot.park(parked, for: query(1), now: 0)
        let answer3 = lot.shouldAsk(query(1))
        #expect(answer3)
        _ = lot.park(parked, for: query(1), now: 0)
        let answer4 = lot.shouldAsk(query(1))
        #expect(!answer4)
        var asked = 0
        var now: UInt64 = 0
        while true {
            now += AgentLimits.askIntervalNanoseconds
            #expect(lot.due(now: now - 1).isEmpty)
            guard let due = lot.due(now: now).first else { break }
            switch due {
            case .ask(let query):
                asked += 1
                #expect(query == self.query(1))
                continue
            case .unreachable(_, let packets): #expect(packets.count == 2)
            }
            break
        }
        // The first question was asked when the packet was parked.
        #expect(asked == AgentLimits.asks - 1)
        #expect(lot.count == 0)
    }

    @Test func `neither one neighbor nor all of them hold more packets than they may`() {
        var lot = ParkingLot()
        let first = (0..<100).count { _ in lot.park(parked, for: query(0), now: 0) }
        #expect(first == AgentLimits.parkedPerNeighbor)
        for number in 1...200 as ClosedRange<UInt32> {
            for _ in 0..<20 { _ = lot.park(parked, for: query(number), now: 0) }
        }
        #expect(lot.count == AgentLimits.parkedPerThread)
        #expect(lot.takeAll().count == AgentLimits.parkedPerThread)
        #expect(lot.count == 0)
    }

    @Test func `a scan of addresses behind one router port leaves room for the other ports`() {
        var lot = ParkingLot()
        let watched = (0..<10_000 as Range<UInt32>).count { lot.watch(query($0), now: 0) }
        #expect(watched == AgentLimits.queriesPerPort)
        let other = ParkingLot.Query(address: query(1).address, port: Simulation.Tag(bits: 10))
        let answer5 = lot.park(parked, for: other, now: 0)
        #expect(answer5)
        #expect(lot.queryCount == AgentLimits.queriesPerPort + 1)
        // What is given up makes room again.
        for second in 1...AgentLimits.asks + 1 {
            _ = lot.due(now: UInt64(second) * AgentLimits.askIntervalNanoseconds)
        }
        #expect(lot.queryCount == 0)
        let answer6 = lot.watch(query(20_000), now: 0)
        #expect(answer6)
    }
}
