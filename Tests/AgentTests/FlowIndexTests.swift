// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import TestSupport
import Testing
import Wire

@testable import Agent

@Suite struct FlowIndexTests {
    private func flow(_ number: UInt64, _ actions: [Action]) -> Flow {
        var key = FlowKey()
        key.words[11] = number
        var mask = FlowMask()
        mask.includeSource(prefix: 128)
        return Flow(key: key, mask: mask, actions: actions)
    }

    @Test func `a tag finds exactly the flows that have it, through any number of changes`() {
        var random = SeededRandom(seed: SeededRandom.seed)
        var index = FlowIndex()
        var reference: [UInt64: Set<Simulation.Tag>] = [:]
        for round in 0..<20_000 {
            let number = random.next() % 200
            if round % 4 == 0 {
                index.remove(flow(number, []).id)
                reference[number] = nil
            } else {
                // A handful of paths, so that flows share tag sets.
                let path = random.next() % 12
                let tags = (0...path % 5).map { Simulation.Tag(bits: path * 7 + $0) }
                var flow = flow(number, [.output(PortNumber(UInt32(path)))])
                let own = (0..<Int(random.next() % 4)).map { _ in Simulation.Tag(bits: 70 + random.next() % 25) }
                index.put(&flow, sample: flow.key, now: 1, isStanding: false, tags: tags, own: own)
                reference[number] = Set(tags).union(own)
            }
            guard round % 50 == 0 else { continue }
            let tag = Simulation.Tag(bits: random.next() % 90)
            let expected = reference.filter { $0.value.contains(tag) }.map { flow($0.key, []).id }
            let found = index.flows(with: [tag])
            #expect(
                Set(found) == Set(expected) && found.count == expected.count, "seed \(SeededRandom.seed) round \(round)"
            )
            #expect(index.count == reference.count)
        }
    }

    @Test func `a flow that is decided again to the same keeps its tags, also when it is the only one that has them`() {
        var index = FlowIndex()
        let tags = [Simulation.Tag(bits: 1), Simulation.Tag(bits: 2)]
        for _ in 0..<3 {
            var flow = flow(7, [.output(PortNumber(3))])
            index.put(&flow, sample: flow.key, now: 1, isStanding: false, tags: tags)
            #expect(index.flows(with: [tags[1]]) == [flow.id])
        }
    }

    @Test func `flows of one path share one list of actions`() {
        var index = FlowIndex()
        let tags = [Simulation.Tag(bits: 1), Simulation.Tag(bits: 2)]
        var places: Set<UnsafeRawPointer?> = []
        for number in 0..<10 {
            var flow = flow(UInt64(number), [.output(PortNumber(3)), .popVLAN])
            index.put(&flow, sample: flow.key, now: 1, isStanding: false, tags: tags)
            places.insert(flow.actions.withUnsafeBytes { $0.baseAddress })
        }
        #expect(places.count == 1)
    }
}
