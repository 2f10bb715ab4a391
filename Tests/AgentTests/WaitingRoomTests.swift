// SPDX-License-Identifier: Apache-2.0
import Simulation
import Testing
import Wire

@testable import Agent
@testable import Datapath

@Suite struct WaitingRoomTests {
    private let port = Simulation.Tag(bits: 1)

    private func missed(_ number: UInt16) -> MissedState {
        .connection(
            ConnectionTuple(
                source: IPAddress(IPv4Address(bits: 1)), destination: IPAddress(IPv4Address(bits: 2)),
                sourcePort: number, destinationPort: 80, ipProtocol: IPProtocol.tcp), zone: Simulation.Tag(bits: 9))
    }

    private func guest(_ number: UInt16, until: UInt64) -> WaitingRoom.Guest {
        .init(packet: OwnedPacket(bytes: []), port: port, missed: [missed(number)], until: until)
    }

    @Test func `who waits leaves when it is known, or when nobody knows it, and does not wait for the same at once`() {
        var room = WaitingRoom()
        #expect(room.admits([missed(1)], at: port, now: 5))
        room.hold(guest(1, until: 100))
        room.hold(guest(2, until: 50))
        #expect(room.due == 50)
        #expect(room.take([Simulation.Tag(bits: 77)]).isEmpty)
        #expect(room.take([missed(1).tag]).count == 1)
        #expect(room.takeDue(now: 49).isEmpty)
        #expect(room.takeDue(now: 50).count == 1)
        #expect(room.count == 0 && room.due == .max)
        #expect(!room.admits([missed(2)], at: port, now: 60), "nobody knew it a moment ago")
        #expect(room.admits([missed(1)], at: port, now: 60))
        #expect(room.admits([missed(2)], at: port, now: 60 + AgentLimits.unknownStateNanoseconds))
        _ = room.take([missed(2).tag])
        #expect(room.admits([missed(2)], at: port, now: 60), "somebody has told it since")
    }

    @Test func `who waits for what nobody knows leaves, and for more than that stays`() {
        var room = WaitingRoom()
        var both = guest(1, until: 100)
        both.missed.append(missed(2))
        room.hold(both)
        room.hold(guest(2, until: 100))
        #expect(room.take(unknown: [missed(3).tag], now: 5).isEmpty)
        #expect(room.take(unknown: [missed(2).tag], now: 5).map(\.missed) == [[missed(2)]])
        #expect(!room.admits([missed(2)], at: port, now: 6))
        #expect(room.take(unknown: [missed(1).tag, missed(2).tag], now: 7).count == 1)
        #expect(room.count == 0 && room.due == .max)
    }

    @Test func `one port does not fill the room`() {
        var room = WaitingRoom()
        for number in 0..<UInt16(AgentLimits.heldPerPort) {
            #expect(room.admits([missed(number)], at: port, now: 1))
            room.hold(guest(number, until: 10))
        }
        #expect(!room.admits([missed(999)], at: port, now: 1))
        #expect(room.admits([missed(999)], at: Simulation.Tag(bits: 2), now: 1))
        #expect(!room.admits([], at: Simulation.Tag(bits: 2), now: 1))
    }
}
