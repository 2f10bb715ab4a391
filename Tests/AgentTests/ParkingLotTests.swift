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
        #expect(lot.park(parked, for: query(1), now: 0) == (true, true))
        #expect(lot.park(parked, for: query(1), now: 0) == (true, false))
        #expect(lot.take([.neighbor(query(2).address, port: port)]).isEmpty)
        #expect(lot.take([.neighbor(query(1).address, port: port)]).count == 2)
        #expect(lot.count == 0)
    }

    @Test func `the neighbor is asked again and again, then given up`() {
        var lot = ParkingLot()
        _ = lot.park(parked, for: query(1), now: 0)
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
            case .unreachable(_, let packets): #expect(packets.count == 1)
            }
            break
        }
        // The first question was asked when the packet was parked.
        #expect(asked == AgentLimits.asks - 1)
        #expect(lot.count == 0)
    }

    @Test func `neither one neighbor nor all of them hold more packets than they may`() {
        var lot = ParkingLot()
        let first = (0..<100).count { _ in lot.park(parked, for: query(0), now: 0).accepted }
        #expect(first == AgentLimits.parkedPerNeighbor)
        for number in 1...200 as ClosedRange<UInt32> {
            for _ in 0..<20 { _ = lot.park(parked, for: query(number), now: 0) }
        }
        #expect(lot.count == AgentLimits.parkedPerThread)
        #expect(lot.takeAll().count == AgentLimits.parkedPerThread)
        #expect(lot.count == 0)
    }
}
