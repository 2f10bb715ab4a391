// SPDX-License-Identifier: Apache-2.0
import Consensus

/// A client: one operation after the other, each tried until it is done, at whatever node.
struct SimulatedClient {
    static let keys: UInt64 = 3
    let number: Int
    private var attempt: UInt64 = 0
    private var serial: UInt64 = 0
    private var current: (kind: Operation.Kind, key: UInt64, begin: UInt64)?
    private var done: [(key: UInt64, operation: Operation)] = []
    private var target: NodeID?
    /// When the faults ended.
    var quietSince: UInt64?
    private var readsServed = false
    private var writesServed = false

    init(number: Int) { self.number = number }

    /// Whether a write and a read that began after the faults were done.
    var wasServed: Bool { readsServed && writesServed }

    mutating func begin(_ world: World) {
        guard current == nil else { return }
        if let quietSince, world.now > quietSince + World.quietTime / 2 { return }
        let key = UInt64.random(in: 0..<SimulatedClient.keys, using: &world.clientRandom)
        if Bool.random(using: &world.clientRandom) {
            serial += 1
            current = (.write(UInt64(number + 1) << 32 | serial), key, world.now)
        } else {
            current = (.read(0), key, world.now)
        }
        ask(world)
    }

    private mutating func ask(_ world: World) {
        guard let current else { return }
        attempt += 1
        // Those that never became members are nobody's address.
        let ids = world.nodes.values.filter { $0.applied > 0 || $0.disk.lastIndex > 0 }.map(\.id).sorted()
        let node = target ?? ids.randomElement(using: &world.clientRandom) ?? NodeID(1)
        target = nil
        var command: Command?
        if case .write(let value) = current.kind {
            command = Command(client: UInt64(number + 1), serial: serial, key: current.key, value: value)
        }
        let request = Request(client: number, attempt: attempt, command: command, key: current.key)
        world.schedule(.request(node, request), in: world.delay())
        world.schedule(
            .clientTimeout(number, attempt: attempt),
            in: UInt64.random(in: 50_000...300_000, using: &world.clientRandom))
    }

    mutating func timeOut(_ attempt: UInt64, _ world: World) {
        guard attempt == self.attempt, current != nil else { return }
        world.count("client timeout")
        ask(world)
    }

    mutating func take(_ answer: Answer, _ world: World) {
        guard let current else { return }
        // A late answer to a write is as good as one in time; one to an earlier try of a read is, too, since all tries
        // began within the operation.
        guard let value = answer.value, answer.attempt >= firstAttempt else {
            if answer.attempt == attempt {
                target = answer.hint
                attempt += 1
                world.schedule(.clientTimeout(number, attempt: attempt), in: 20_000)
            }
            return
        }
        var kind = current.kind
        if case .read = kind { kind = .read(value) }
        done.append((current.key, Operation(kind: kind, begin: current.begin, end: world.now)))
        if let quietSince, current.begin > quietSince {
            if case .read = kind { readsServed = true } else { writesServed = true }
        }
        if case .read = kind { world.count("read") } else { world.count("write") }
        self.current = nil
        firstAttempt = attempt + 1
        world.schedule(.clientBegins(number), in: UInt64.random(in: 0...60_000, using: &world.clientRandom))
    }

    private var firstAttempt: UInt64 = 1

    func history(of key: UInt64) -> [Operation] {
        var list = done.filter { $0.key == key }.map(\.operation)
        if let current, current.key == key {
            list.append(Operation(kind: current.kind, begin: current.begin, end: .max))
        }
        return list
    }
}
