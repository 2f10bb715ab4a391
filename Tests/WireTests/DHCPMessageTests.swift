// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

@Suite struct DHCPMessageTests {
    private typealias Option = DHCPMessage.Option

    private func message(_ options: [UInt8: [UInt8]]) -> DHCPMessage {
        var message = DHCPMessage(.ack, isRequest: false, transaction: 7, mac: MACAddress(bits: 0x0200_0000_0011))
        message.yourAddress = IPv4Address(bits: 0x0a00_0164)
        message.clientAddress = IPv4Address(bits: 0x0a00_0165)
        message.relay = IPv4Address(bits: 0x0a00_0101)
        message.bootServer = IPv4Address(bits: 0x0a00_0145)
        message.isBroadcast = true
        message.options = options
        return message
    }

    @Test func `what is written is read, in parts where one is too long, and is never shorter than clients take`() {
        let short = message([Option.router: [10, 0, 1, 1], Option.server: [10, 0, 1, 2]])
        let bytes = short.encoded([Option.server, Option.router])
        #expect(bytes.count == 300 && DHCPMessage(bytes) == short)
        #expect(Array(bytes[240..<255]) == [53, 1, 5, 54, 4, 10, 0, 1, 2, 3, 4, 10, 0, 1, 1])
        let long = message([Option.search: (0..<600).map { UInt8($0 & 0xff) }, 43: [1]])
        #expect(DHCPMessage(long.encoded([Option.search, 43], largest: 1400)) == long)
        // What finds no room is left out, and what is smaller goes.
        #expect(DHCPMessage(long.encoded([Option.search, 43]))?.options == [43: [1]])
        #expect(long.encoded([Option.search, 43], largest: 1000).count <= 1000 - 28)
    }

    @Test func `options go on where the names of file and server would be`() {
        var bytes = message([:]).encoded([])
        bytes.replaceSubrange(243..., with: [52, 1, 3, 255])
        bytes.replaceSubrange(108..<114, with: [15, 3, 97, 46, 98, 255])
        bytes.replaceSubrange(44..<49, with: [43, 1, 9, 255, 0])
        #expect(DHCPMessage(bytes)?.options == [15: [97, 46, 98], 43: [9]])
    }

    @Test func `what is cut off, or no message of DHCP over Ethernet, is none`() {
        let good = message([Option.router: [10, 0, 1, 1]]).encoded([Option.router])
        #expect(DHCPMessage(good) != nil)
        for (place, value) in [(0, UInt8(3)), (1, 6), (2, 16), (236, 0), (242, 9), (241, 2)] {
            var bad = good
            bad[place] = value
            #expect(DHCPMessage(bad) == nil, "\(place)")
        }
        for length in 0..<247 { #expect(DHCPMessage(Array(good[..<length])) == nil || length >= 243) }
        #expect(DHCPMessage(Array(good[..<246])) == nil, "an option that is cut off")
    }

    @Test func `any bytes are read without a trap`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        let good = message([Option.router: [10, 0, 1, 1], Option.search: [UInt8](repeating: 7, count: 300)]).encoded(
            [Option.router, Option.search], largest: 1400)
        for _ in 0..<20_000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            bytes.removeLast(Int.random(in: 0...60, using: &random))
            if let read = DHCPMessage(bytes) { _ = read.encoded(read.options.keys.sorted(), largest: 1400) }
        }
    }
}
