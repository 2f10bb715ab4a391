// SPDX-License-Identifier: Apache-2.0
import Manifest
import TestSupport
import Testing
import Topology
import Wire

@Suite struct ManifestTests {
    /// The mistakes of a manifest, as a reader sees them.
    private func mistakes(_ text: String) -> [ManifestError.Item] {
        do {
            _ = try ManifestReader.read(text, file: "m.yaml")
            return []
        } catch {
            return error.items
        }
    }

    @Test func `a link makes a port on either side`() throws {
        let topology = try draw(Drawings.routers)
        let near = try #require(PortPath("t/gw/a"))
        let far = try #require(PortPath("t/a/gw"))
        #expect(topology.ports[near]?.attachment == .peer(far))
        #expect(topology.ports[far]?.attachment == .peer(near))
        #expect(topology.ports[near]?.addresses.map(\.description) == ["10.0.1.1/24", "fd00:1::1/64"])
        #expect(topology.ports[try #require(PortPath("p/edge/t-gw"))]?.addresses.first?.description == "100.64.0.1/30")
    }

    @Test func `every mistake is told at once, with its place and a remedy`() {
        let items = mistakes(
            """
            tunnel: gre
            hosts: { h1: { address: 192.0.2.1 } }
            tenants:
              t:
                bridges:
                  web: { subnet: 10.0.1.5/24, prots: [a] }
                routers:
                  gw:
                    links:
                      - { bridge: wbe, address: 10.0.1.1/24 }
                    routes:
                      - { to: 10.0.0.0/33, via: 10.0.0.1 }
            """)
        #expect(items.map(\.line) == [6, 6, 10, 12])
        #expect(
            items.map(\.reason) == [
                "subnet \"10.0.1.5/24\" has bits set past its length: the network is 10.0.1.0/24",
                "\"prots\" is not known here", "bridge wbe does not exist",
                "to \"10.0.0.0/33\" has a prefix length over 32",
            ])
        #expect(
            items.map(\.remedy) == [
                "write 10.0.1.0/24", "did you mean ports?", "did you mean t/web?", "use a length from 0 to 32",
            ])
    }

    @Test func `overlapping networks of one router are refused and both are named`() throws {
        let item = try #require(
            mistakes(
                """
                tenants:
                  t:
                    bridges: { web: {}, db: {} }
                    routers:
                      gw:
                        links:
                          - { bridge: web, address: 10.0.0.1/16 }
                          - { bridge: db, address: 10.0.2.1/24 }
                """
            ).first)
        #expect(item.object == "t/gw/web")
        #expect(item.reason == "10.0.0.1/16 overlaps t/gw/db 10.0.2.0/24")
        #expect(item.line == 7)
    }

    @Test func `a name that is there twice is refused where it stands`() throws {
        let item = try #require(
            mistakes(
                """
                tenants:
                  t:
                    bridges:
                      web: { ports: [a] }
                      db: {}
                      web: {}
                """
            ).first)
        #expect(item.reason == "web is there twice")
        #expect(item.line == 6)
        #expect(mistakes("tenants: { t: { bridges: { b: { ports: [a, a] } } } }").first?.reason == "is there twice")
    }

    @Test func `bridges linked in a circle are refused, routers are not`() {
        let items = mistakes(
            """
            tenants:
              t:
                bridges:
                  a: { links: [{ bridge: b }] }
                  b: { links: [{ bridge: c }] }
                  c: { links: [{ bridge: a }] }
            """)
        #expect(items.count == 1)
        #expect(items.first?.reason.contains("closes a loop of bridges") == true)
        #expect(
            mistakes(
                """
                tenants:
                  t:
                    routers:
                      a: { links: [{ router: b, address: 10.0.0.1/30, peer: 10.0.0.2/30 }] }
                      b: { links: [{ router: c, address: 10.0.0.5/30, peer: 10.0.0.6/30 }] }
                      c: { links: [{ router: a, address: 10.0.0.9/30, peer: 10.0.0.10/30 }] }
                """) == [])
    }

    @Test(arguments: [
        ("", "the file is empty"), ("[]", "a list of \"name: value\" lines belongs here"), ("a: b: c", "not YAML"),
        ("tenants: {", "not YAML"), ("\t", "not YAML"), ("tenants:\n  t: {bridges: [x]}", "a list of \"name: value\""),
        ("x: &a [*a]", ""), ("tunnel: ipsec\ntenants: {}", "tunnel is \"ipsec\""),
        ("tenants: { 'a b': {} }", "cannot name a tenant"),
        ("42", "a list of \"name: value\" lines belongs here"),
        ("tenants: {t: {bridges: {b: {ports: {p: {vlan: 5000}}}}}}", "vlan is"),
    ])
    func `what is no manifest is refused with a reason`(_ text: String, _ reason: String) {
        let items = mistakes(text)
        #expect(!items.isEmpty)
        #expect(items.contains { $0.reason.hasPrefix(reason) }, "\(items)")
        #expect(items.allSatisfy { !$0.remedy.isEmpty })
    }

    @Test func `ten megabytes of noise are refused at once`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        var text = ""
        while text.utf8.count < 10 << 20 {
            text.unicodeScalars.append(Unicode.Scalar(UInt8.random(in: 32...126, using: &random)))
        }
        #expect(mistakes(text).first?.reason.hasPrefix("the file has more than") == true)
    }

    @Test func `noise of any kind is an error and never a trap`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        let source = Array(Drawings.routers.utf8)
        for _ in 0..<300 {
            var bytes = source
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                if Bool.random(using: &random) {
                    bytes[at] = UInt8.random(in: 32...126, using: &random)
                } else {
                    bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...20, using: &random)))
                }
            }
            let text = String(decoding: bytes, as: UTF8.self)
            // Whatever is accepted must be whole.
            if let manifest = try? ManifestReader.read(text, file: "m") {
                #expect(manifest.topology.problems().isEmpty)
            }
        }
    }

    @Test func `expectations say who reaches whom`() throws {
        let text = """
            tenants: { t: { bridges: { b: { ports: [a, c] } } } }
            lab:
              hosts: [h1]
              machines:
                t/b/a: { host: h1, address: 10.0.0.1/24 }
                t/b/c: { host: h1, address: [10.0.0.2/24, "fd00::2/64"] }
              expect:
                - t/b/a reaches t/b/c tcp 80 ipv6
                - t/b/a cannot reach 10.9.9.9
            """
        let plan = try #require(try ManifestReader.read(text, file: "m").lab)
        #expect(
            plan.expectations.map(\.description) == ["t/b/a reaches t/b/c tcp 80 ipv6", "t/b/a cannot reach 10.9.9.9"])
        #expect(
            mistakes(text.replacing("t/b/a reaches", with: "t/b/x reaches")).first?.reason
                == "there is no machine t/b/x")
        #expect(mistakes(text.replacing("tcp 80", with: "tcp")).first?.reason == "tcp needs a port")
    }

    @Test(arguments: [
        ("{ vlan: 20, trunk: [10] }", "has a vlan and a trunk"), ("{ native: 20 }", "has native, but no trunk"),
        ("{ trunk: [] }", "a trunk of no VLANs"),
    ])
    func `settings of a port that contradict each other are told`(_ port: String, _ reason: String) {
        let text = "tenants: { t: { bridges: { b: { ports: { p: \(port) } } } } }"
        let error = #expect(throws: ManifestError.self) { try ManifestReader.read(text, file: "x.yaml") }
        #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
    }

    @Test func `ends of a link between routers, and routes of two families, must fit together`() {
        func mistakes(_ link: String, _ route: String) -> String {
            let text = """
                tenants:
                  t:
                    routers:
                      b: {}
                      a:
                        links: [{ router: b, \(link) }]
                        routes: [\(route)]
                """
            do {
                _ = try ManifestReader.read(text, file: "x.yaml")
                return ""
            } catch { return error.description }
        }
        let good = "address: 100.64.0.1/30, peer: 100.64.0.2/30"
        #expect(mistakes(good, "{ to: 0.0.0.0/0, via: 100.64.0.2 }") == "")
        #expect(mistakes(good, "{ to: default, via: 100.64.0.2 }") == "")
        #expect(mistakes(good, "{ to: \"::/0\", via: 100.64.0.2 }").contains("of the other family"))
        #expect(mistakes("address: 100.64.0.1/30, peer: 100.64.0.1/30", "").contains("the address of its peer"))
        #expect(mistakes("address: 100.64.0.1/30, peer: 100.65.0.1/30", "").contains("different networks"))
    }
}
