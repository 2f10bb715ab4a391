// SPDX-License-Identifier: Apache-2.0
import Manifest
import TestSupport
import Testing
import Topology
import Wire

@Suite struct ManifestWriterTests {
    @Test(arguments: [Drawings.routers, Drawings.vlans])
    func `what is written reads back as the same topology`(_ drawing: String) throws {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        var changes = TopologyChanges()
        var topology = try draw(drawing)
        for round in 0..<150 {
            topology = changes.next(topology, &random)
            let text = ManifestWriter.write(topology)
            let read: Topology
            do { read = try ManifestReader.read(text, file: "export").topology } catch {
                Issue.record("seed \(seed) round \(round): \(error)\n\(text)")
                return
            }
            let others = Set(topology.hosts.keys.map(ObjectKey.host) + topology.zones.keys.map(ObjectKey.zone))
            let plan = Plan(from: topology, to: read, tenants: Set(topology.tenants), others: others)
            #expect(plan.isEmpty, "seed \(seed) round \(round): \(plan.items)\n\(text)")
            if !plan.isEmpty { return }
            // A tenant that is to have nothing keeps nothing but what its operator set.
            let gone = Plan(from: topology, to: Topology(), tenants: Set(topology.tenants), others: [])
            let left = topology.keys.filter { $0.tenant != nil }
            #expect(
                gone.items.map(\.key) == left.sorted() && gone.items.allSatisfy { $0.action == .delete },
                "seed \(seed) round \(round)")
        }
    }

    @Test func `names that YAML takes for something else stand in quotes`() throws {
        var topology = try draw(Drawings.bridge)
        let device = DevicePath(tenant: "t", name: "b")
        for interface in [
            "a,b", "{x}", "[y", "'z", "a\"b", "a\\b", "&a", "*b", "- c", "#d", "true", "1e3", "%p", "a: b",
        ] {
            if interface.contains(" ") { continue }
            var port = Port(path: PortPath(device: device, name: "p\(topology.ports.count)"), kind: .bridge)
            port.attachment = .exterior(host: "h1", interface: interface)
            topology.ports[port.path] = port
        }
        let read = try ManifestReader.read(ManifestWriter.write(topology), file: "export").topology
        #expect(Plan(from: topology, to: read, tenants: ["t"], others: []).isEmpty)
    }
}

@Suite struct AliasTests {
    @Test(arguments: [
        "a: &x [1]\nb: *x\n", "# \r{\"k\":&a [1], \"l\":*a}\n", "a: \"\\\\\"\nb: &x 1\nc: *x\n",
        "{\"k\":&a [1],\"m\":*a}",
        "a: !!seq &a [1]\nb: *a\n",
    ])
    func `aliases of anchors are not taken, however they are hidden`(_ text: String) {
        #expect { try ManifestReader.read(text, file: "m") } throws: { "\($0)".contains("aliases of anchors") }
    }
}
