// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// A network namespace that is kept by a file it is mounted on.
struct NetworkNamespace: Sendable {
    let path: String
    let descriptor: Descriptor

    /// Makes a namespace and mounts it on a new file.
    static func create(at path: String) throws -> NetworkNamespace {
        let file = Glibc.open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0o600)
        if file < 0 { throw SystemError(errno, "make \(path)") }
        close(file)
        // On a thread of its own: a namespace that is entered stays with the thread.
        let code = try onThread { () -> Int32 in
            let result = cl_unshare_network()
            if result < 0 { return result }
            return cl_mount_bind("/proc/thread-self/ns/net", path)
        }
        try SystemError.check(code, "make the network namespace \(path)")
        return try open(path)
    }

    static func open(_ path: String) throws -> NetworkNamespace {
        let number = try SystemError.check(cl_open_path(path), "open the network namespace \(path)")
        return NetworkNamespace(path: path, descriptor: Descriptor(number))
    }

    /// Runs `body` on a fresh thread inside the namespace and waits for it.
    func inside<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
        let number = descriptor.number
        let path = path
        return try NetworkNamespace.onThread { () -> Result<Value, any Error> in
            let result = cl_enter(number)
            if result < 0 { return .failure(SystemError(result, "enter the network namespace \(path)")) }
            return Result { try body() }
        }
        .get()
    }

    private static func onThread<Value: Sendable>(_ body: @escaping @Sendable () -> Value) throws -> Value {
        let reply = Reply<Value>()
        let thread = try NamedThread("sel-namespace") { reply.put(body()) }
        defer { thread.join() }
        return reply.take()
    }
}
