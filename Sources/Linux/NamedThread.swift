// SPDX-License-Identifier: Apache-2.0
import CLinux

/// A thread of its own, outside the pools of Swift: packets live here, and calls that block.
public final class NamedThread: Sendable {
    private let id: UInt64

    /// Starts `body` on a new thread with all signals blocked.
    ///
    /// - Parameter name: up to 15 bytes, shown by `top -H`.
    public init(_ name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
        let box = Unmanaged.passRetained(Body(body))
        var id: UInt64 = 0
        let result = cl_thread_start(
            name,
            { context in
                guard let context else { return nil }
                Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
                return nil
            }, box.toOpaque(), &id)
        if result < 0 {
            box.release()
            throw SystemError(result, "start thread \(name)")
        }
        self.id = id
    }

    /// Waits for the thread's end. Call it once.
    public func join() { cl_thread_join(id) }
}

private final class Body: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}
