// SPDX-License-Identifier: Apache-2.0

/// What clients of the simulated cluster ask of it: to write one of a few registers, once.
struct Command: Hashable {
    var client: UInt64
    /// Counts the client's commands: a repeated one has the number of the first.
    var serial: UInt64
    var key: UInt64
    var value: UInt64

    var bytes: [UInt8] {
        [client, serial, key, value].flatMap { word in
            (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) }
        }
    }

    init(client: UInt64, serial: UInt64, key: UInt64, value: UInt64) {
        self.client = client
        self.serial = serial
        self.key = key
        self.value = value
    }

    init?(_ bytes: [UInt8]) {
        guard bytes.count == 32 else { return nil }
        func word(_ index: Int) -> UInt64 { bytes[8 * index..<8 * index + 8].reduce(0) { $0 << 8 | UInt64($1) } }
        self.init(client: word(0), serial: word(1), key: word(2), value: word(3))
    }
}

/// The replicated state machine of the simulation: registers, and for each client the last command that it applied.
struct Registers: Hashable {
    private(set) var values: [UInt64: UInt64] = [:]
    private(set) var lastSerial: [UInt64: UInt64] = [:]

    /// Applies a command, unless it was applied before.
    mutating func apply(_ command: Command) {
        guard command.serial > lastSerial[command.client] ?? 0 else { return }
        lastSerial[command.client] = command.serial
        values[command.key] = command.value
    }

    /// As bytes, for snapshots.
    var bytes: [UInt8] {
        var words: [UInt64] = [UInt64(values.count)]
        for key in values.keys.sorted() { words += [key, values[key] ?? 0] }
        for client in lastSerial.keys.sorted() { words += [client, lastSerial[client] ?? 0] }
        return words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) } }
    }

    init() {}

    init(_ bytes: [UInt8]) {
        let words = stride(from: 0, to: bytes.count, by: 8).map { at in
            bytes[at..<at + 8].reduce(0) { $0 << 8 | UInt64($1) }
        }
        let count = Int(words[0])
        for index in 0..<count { values[words[1 + 2 * index]] = words[2 + 2 * index] }
        var at = 1 + 2 * count
        while at + 1 < words.count {
            lastSerial[words[at]] = words[at + 1]
            at += 2
        }
    }
}
