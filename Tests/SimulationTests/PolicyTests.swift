// SPDX-License-Identifier: Apache-2.0
import Foundation
import Simulation
import TestSupport
import Testing
import Topology
import Wire

@Suite struct PolicyTests {
    /// More cases than a run of all tests has time for: `SELVAGE_CASES=1000000`.
    private static let cases = ProcessInfo.processInfo.environment["SELVAGE_CASES"].flatMap { Int($0) } ?? 40_000

    /// What became of a packet that only filters can stop.
    private func decision(_ verdict: Verdict) -> PolicyModel.Decision {
        switch verdict.drop {
        case nil: .accept
        case .filtered?: .drop
        case .filterRejected?: .reject
        default: .end
        }
    }

    @Test func `compiled chains decide as the rules say, and so do the flows that come of it`() throws {
        let seed = SeededRandom.seed
        var policy = RandomPolicy(random: SeededRandom(seed: seed))
        let base = try draw(Drawings.bridge)
        let bridge = DevicePath(tenant: "t", name: "b")
        let (one, two) = (PortPath(device: bridge, name: "one"), PortPath(device: bridge, name: "two"))
        var accepted = 0
        var installed = 0
        for round in 0..<PolicyTests.cases / 200 {
            var topology = base
            for name in ["g1", "g2"] {
                let path = DevicePath(tenant: "t", name: name)
                topology.portGroups[path] = PortGroup(path: path)
            }
            for name in ["a1", "a2"] {
                let group = policy.group(name)
                topology.addressGroups[group.path] = group
            }
            for chain in policy.chains() { topology.chains[chain.path] = chain }
            topology.ports[one]?.filters.inbound = "c0"
            topology.ports[two]?.filters.outbound = policy.pick(["c0", "c1"])
            topology.ports[one]?.groups = policy.pick([[], ["g1"], ["g1", "g2"]])
            topology.ports[two]?.groups = policy.pick([[], ["g2"]])
            let problems = topology.problems()
            #expect(problems.isEmpty, "seed \(seed) round \(round): \(problems)")
            guard problems.isEmpty else { return }

            let state = TableState()
            var model = PolicyModel(topology: topology)
            for _ in 0..<12 {
                let key = policy.key()
                guard key.etherType != 0x0900, key.ipFragment != FragmentKind.later else { continue }
                let tuple = PolicyModel.tuple(of: key)
                guard !model.connections.contains(tuple.reversed) else { continue }
                state.learn(.connection(tuple, zone: .bridge(bridge), flags: 0))
                model.connections.append(tuple)
            }
            let host = Host(topology: topology, state: state)
            let index = host.port("t/b/one")
            let inbound = PolicyModel.Context(inPort: one, outPort: nil, ingress: one, traversed: [bridge])
            let outbound = PolicyModel.Context(inPort: one, outPort: two, ingress: one, traversed: [bridge])
            for _ in 0..<200 {
                let key = policy.key()
                let verdict = host.decide(key, at: index)
                var wanted = model.run("c0", key, inbound)
                if wanted == .end { wanted = .accept }
                if wanted == .accept, let name = topology.ports[two]?.filters.outbound {
                    wanted = model.run(name, key, outbound)
                    if wanted == .end { wanted = .accept }
                }
                let found = decision(verdict)
                if found != wanted {
                    Issue.record(
                        "seed \(seed) round \(round): \(found), not \(wanted)\n\(model.connections)\n\(FlowMask.exact.describe(key))\n\(verdict.trace)\n\(topology.chains.values.map { "\($0.path) \($0.rules)" })"
                    )
                    return
                }
                if found == .accept { accepted += 1 }
                guard verdict.isCacheable, !verdict.beginsConnection else { continue }
                installed += 1
                // Any packet that the flow holds is decided in the same way.
                for _ in 0..<3 {
                    var other = key
                    let stranger = policy.key()
                    var mask = verdict.mask
                    mask.include(.etherType)
                    for word in 7..<16 {
                        other.words[word] =
                            key.words[word] & mask.bits.words[word]
                            | stranger.words[word] & ~mask.bits.words[word]
                    }
                    let second = host.decide(other, at: index)
                    if decision(second) != found {
                        Issue.record(
                            "seed \(seed) round \(round): \(found), then \(decision(second))\n\(verdict.mask.describe(key))\n\(FlowMask.exact.describe(other))\n\(verdict.trace)\n\(second.trace)\n\(topology.chains.values.map { "\($0.path) \($0.rules)" })"
                        )
                        return
                    }
                }
            }
        }
        #expect(accepted > PolicyTests.cases / 20 && installed > PolicyTests.cases / 10, "\(accepted) \(installed)")
    }
}
