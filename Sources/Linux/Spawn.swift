// SPDX-License-Identifier: Apache-2.0
import CLinux
import Foundation

/// A process to start, in namespaces other than ours where wanted.
public struct Spawn {
    /// Path of the program.
    public var program: String
    /// What it is told, its own name first.
    public var arguments: [String]
    /// Descriptors of namespaces to enter first, in order.
    public var namespaces: [Int32] = []
    /// Descriptors for standard input, output and error; -1 leaves ours.
    public var input: Int32 = -1
    /// See ``input``.
    public var output: Int32 = -1
    /// See ``input``.
    public var error: Int32 = -1
    /// Whether a process namespace is among the namespaces.
    public var relays = false
    /// Whether it is to lead a session of its own.
    public var ownSession = false
    /// A descriptor that it is to have under its number; -1: none but those three.
    public var kept: Int32 = -1
    /// Whether it is killed when the thread that starts it ends.
    public var diesWithParent = false
    /// What is added to its nice value: less than 0 has it run before others, if we may do that (`CAP_SYS_NICE`).
    public var niceness: Int32 = 0

    /// A program with our own descriptors, in our namespaces.
    public init(
        program: String, arguments: [String], namespaces: [Int32] = [], input: Int32 = -1, output: Int32 = -1,
        error: Int32 = -1, relays: Bool = false, ownSession: Bool = false, diesWithParent: Bool = false,
        kept: Int32 = -1, niceness: Int32 = 0
    ) {
        self.program = program
        self.arguments = arguments
        self.namespaces = namespaces
        self.input = input
        self.output = output
        self.error = error
        self.relays = relays
        self.ownSession = ownSession
        self.diesWithParent = diesWithParent
        self.kept = kept
        self.niceness = niceness
    }

    /// Starts it; returns the process id.
    public func start() throws -> Int32 {
        try withSpawn { spawn in
            try SystemError.check(cl_spawn_process(&spawn), "start \(arguments.first ?? program)")
        }
    }

    /// Starts it as process 1 of a world of its own; returns its id in ours.
    ///
    /// - Parameter stage: receives what failed: 1 user namespace, 2 id maps, 3 other namespaces, 4 the program.
    public func startWorld(mapUser: Bool, stage: inout Int32) -> Int32 {
        (try? withSpawn { spawn in cl_spawn_world(&spawn, mapUser ? 1 : 0, &stage) }) ?? -5
    }

    private func withSpawn<Value>(_ body: (inout cl_spawn) throws -> Value) throws -> Value {
        let environment = ProcessInfo.processInfo.environment.map { "\($0.key)=\($0.value)" }
        return try withStrings(arguments) { arguments in
            try withStrings(environment) { environment in
                try program.withCString { program in
                    try namespaces.withUnsafeBufferPointer { namespaces in
                        var spawn = cl_spawn()
                        spawn.path = program
                        spawn.arguments = UnsafePointer(arguments)
                        spawn.environment = UnsafePointer(environment)
                        spawn.namespaces = namespaces.baseAddress
                        spawn.namespace_count = namespaces.count
                        spawn.stdio = (input, output, error)
                        spawn.relays = relays ? 1 : 0
                        spawn.own_session = ownSession ? 1 : 0
                        spawn.dies_with_parent = diesWithParent ? 1 : 0
                        spawn.kept = kept
                        spawn.niceness = niceness
                        return try body(&spawn)
                    }
                }
            }
        }
    }

    /// A null-terminated array of C strings for the time of a call.
    private func withStrings<Value>(
        _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) throws -> Value
    ) rethrows -> Value {
        let list = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: strings.count + 1)
        for (index, string) in strings.enumerated() { list[index] = strdup(string) }
        list[strings.count] = nil
        defer {
            for index in strings.indices { free(list[index]) }
            list.deallocate()
        }
        return try body(list)
    }
}
