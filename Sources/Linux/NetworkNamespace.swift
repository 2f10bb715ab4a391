// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// A network namespace that is kept by its descriptor, or by a file it is mounted on.
public struct NetworkNamespace: Sendable {
    /// What people call it: the file it is mounted on, if there is one.
    public let path: String
    /// What keeps it.
    public let descriptor: Descriptor

    /// Makes a namespace that goes with its descriptor.
    ///
    /// - Parameter name: what people call it.
    public static func make(_ name: String) throws -> NetworkNamespace {
        let number = try onThread { () -> Int32 in
            let result = cl_unshare_network()
            return result < 0 ? result : cl_open_path("/proc/thread-self/ns/net")
        }
        return NetworkNamespace(
            path: name, descriptor: Descriptor(try SystemError.check(number, "make a network namespace")))
    }

    /// Makes a namespace and mounts it on a new file.
    public static func create(at path: String) throws -> NetworkNamespace {
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

    /// Opens one by the file that it is mounted on.
    public static func open(_ path: String) throws -> NetworkNamespace {
        let number = try SystemError.check(cl_open_path(path), "open the network namespace \(path)")
        return NetworkNamespace(path: path, descriptor: Descriptor(number))
    }

    /// Runs `body` on a fresh thread inside the namespace and waits for it.
    public func inside<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
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
