// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing
import Wire

@Suite struct AddressTests {
    @Test(arguments: [
        ("::", "::"), ("::1", "::1"), ("fd00:0:0:1::1", "fd00:0:0:1::1"), ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"), ("::ffff:10.0.0.1", "::ffff:a00:1"), ("1::", "1::"),
    ])
    func `an IPv6 address prints in its canonical form`(_ text: String, _ canonical: String) {
        #expect(IPv6Address(text)?.description == canonical)
    }

    @Test(arguments: [
        "", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "g::", "12345::", "1:2:3:4:5:6:7:8::", "+1::",
        "::1.2.3",
        "1.2.3.4::",
    ])
    func `what is no IPv6 address is refused`(_ text: String) { #expect(IPv6Address(text) == nil) }

    @Test(arguments: ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.1.1.1", "1..1.1", "a.b.c.d", "1.2.3.4 ", "+1.2.3.4"])
    func `what is no IPv4 address is refused`(_ text: String) { #expect(IPv4Address(text) == nil) }

    @Test(arguments: [
        "", "00:11:22:33:44", "00:11:22:33:44:5", "00:11:22:33:44:gg", "00:11:22:33:44:55:66", "+0:11:22:33:44:55",
    ])
    func `what is no MAC is refused`(_ text: String) { #expect(MACAddress(text) == nil) }

    @Test func `addresses survive printing and reading`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        for _ in 0..<2000 {
            // Zeros in runs, so that "::" is exercised.
            let groups = (0..<8).map { _ in
                Bool.random(using: &random) ? 0 : UInt16.random(in: 0...0xffff, using: &random)
            }
            let v6 = IPv6Address(
                high: groups[..<4].reduce(0) { $0 << 16 | UInt64($1) },
                low: groups[4...].reduce(0) { $0 << 16 | UInt64($1) })
            #expect(IPv6Address(v6.description) == v6, "seed \(SeededRandom.seed)")
            let v4 = IPv4Address(bits: UInt32.random(in: 0...UInt32.max, using: &random))
            #expect(IPv4Address(v4.description) == v4)
            let mac = MACAddress(bits: UInt64.random(in: 0...UInt64.max, using: &random))
            #expect(MACAddress(mac.description) == mac)
        }
    }

    @Test func `a prefix with host bits names the network that was meant`() throws {
        #expect(throws: PrefixError.hostBits(try Prefix(parsing: "10.0.1.0/24"))) { try Prefix(parsing: "10.0.1.5/24") }
        #expect(throws: PrefixError.length(max: 32)) { try Prefix(parsing: "10.0.0.0/33") }
        #expect(throws: PrefixError.malformed) { try Prefix(parsing: "10.0.0.0") }
        #expect(try Prefix(parsing: "fd00::/8").contains(#require(IPAddress("fdff::1"))))
        #expect(try !Prefix(parsing: "0.0.0.0/0").contains(#require(IPAddress("::"))))
    }

    @Test func `well-known derived addresses are as the RFCs say`() throws {
        #expect(
            IPv6Address.linkLocal(for: try #require(MACAddress("52:54:00:12:34:56"))).description
                == "fe80::5054:ff:fe12:3456")
        #expect(try #require(IPv6Address("fd00::1:2345")).solicitedNode.description == "ff02::1:ff01:2345")
        #expect(MACAddress.multicast(for: try #require(IPv4Address("239.129.2.3"))).description == "01:00:5e:01:02:03")
    }
}
