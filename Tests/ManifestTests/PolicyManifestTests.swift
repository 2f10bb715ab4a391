// SPDX-License-Identifier: Apache-2.0
import Manifest
import Testing
import Topology

@Suite struct PolicyManifestTests {
    private func manifest(_ tenant: String) -> String {
        """
        tenants:
          t:
        \(tenant.split(separator: "\n").map { "    " + $0 }.joined(separator: "\n"))
            bridges: { b: { ports: [vm] } }
        """
    }

    private func mistakes(_ tenant: String) -> String {
        do {
            _ = try ManifestReader.read(manifest(tenant), file: "m")
            return "none"
        } catch { return "\(error)" }
    }

    @Test func `a rule says in a manifest what it says everywhere`() throws {
        let topology = try ManifestReader.read(
            manifest(
                """
                addressGroups: { offices: [198.51.100.0/28, "2001:db8::7"] }
                portGroups: [web]
                chains:
                  inner: []
                  web:
                    - { id: ssh, protocol: tcp, destinationPort: [22, 2200-2299], sourceGroup: offices, state: new, action: accept }
                    - { notSource: 10.0.0.0/8, tcpFlags: "syn,!ack", protocol: tcp, action: jump inner }
                    - { inverted: true, icmp: 3/4, protocol: icmp, action: drop }
                """), file: "m"
        ).topology
        let chain = try #require(topology.chain("web", of: "t"))
        #expect(
            chain.rules.map(\.description) == [
                "accept protocol tcp, sourceGroup offices, destinationPort 22 2200-2299, state new",
                "jump inner protocol tcp, notSource 10.0.0.0/8, tcpFlags syn,!ack",
                "drop protocol icmp, icmp 3/4, inverted true",
            ])
        #expect(chain.rules.map(\.id) == ["ssh", "2", "3"])
        #expect(topology.addressGroups[.init(tenant: "t", name: "offices")]?.members.count == 2)
    }

    @Test func `what can't be read is told by its place, all at once`() {
        let text = mistakes(
            """
            chains:
              web:
                - { protocol: tpc, action: accept }
                - { source: 10.0.0.1/8, action: accept }
                - { destinationPort: 70000, protocol: tcp, action: accept }
                - { sourcePrt: 22, action: accept }
                - { action: allow }
                - { notState: new, action: accept }
                - { id: "a b", action: accept }
                - { source: 10.0.0.0/8 }
            """)
        for part in [
            "rule 1: protocol is \"tpc\"", "rule 2: source is \"10.0.0.1/8\"", "write 10.0.0.0/8",
            "rule 3: destinationPort is \"70000\"", "sourcePrt", "did you mean sourcePort", "action is \"allow\"",
            "notState", "rule 8: has no action",
        ] { #expect(text.contains(part), "no word of \(part) in \(text)") }
    }

    @Test func `rules that can't work are refused together, by name, with a remedy`() {
        let text = mistakes(
            """
            addressGroups: { g: [10.0.0.1] }
            chains:
              a:
                - { protocol: tcp, destinationPort: 90-80, action: accept }
                - { destinationPort: 80, action: accept }
                - { sourceGroup: nobody, action: drop }
                - { source: 10.0.0.0/8, destination: "fd00::/8", action: drop }
                - { icmp: 8, action: drop }
                - { protocol: udp, tcpFlags: syn, action: drop }
                - { inPortGroup: nobody, action: drop }
                - { action: jump nowhere }
                - { vlan: 5000, action: drop }
                - { protocol: tcp, destinationPort: 22, fragment: nonheader, action: drop }
              b: [{ action: jump c }]
              c: [{ action: jump d }]
              d: [{ action: jump b }]
            """)
        for part in [
            "chain t/a rule 1: range 90-80 ends before it begins", "write 80-90",
            "rule 2: asks for ports without a protocol", "address group nobody does not exist",
            "rule 4: source and destination are of different families", "rule 5: asks for an ICMP type",
            "rule 6: asks for TCP flags", "port group nobody does not exist", "chain nowhere does not exist",
            "VLAN 5000 does not exist", "rule 10: asks for ports, types or flags of fragments that have none",
            "chain t/b: jumps back to itself: b -> c -> d -> b",
        ] { #expect(text.contains(part), "no word of \(part) in \(text)") }
    }

    @Test func `one chain may be jumped to again and again, and deep chains are refused`() throws {
        let twice = mistakes("chains: { a: [{ action: jump b }, { action: jump b }], b: [] }")
        #expect(twice == "none")
        let deep = (0..<20).map { "  c\($0): [{ action: jump c\($0 + 1) }]" }.joined(separator: "\n")
        #expect(mistakes("chains:\n\(deep)\n  c20: []").contains("jumps more than 16 chains deep"))
    }
}
