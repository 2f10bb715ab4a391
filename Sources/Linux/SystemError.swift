// SPDX-License-Identifier: Apache-2.0
import Glibc

/// What the kernel refused, and why.
public struct SystemError: Error, Sendable, CustomStringConvertible {
    /// The `errno` value.
    public let code: Int32
    /// What was tried, as in "open a packet socket on eth0".
    public let action: String

    /// An error of a code; the sign does not matter.
    public init(_ code: Int32, _ action: String) {
        self.code = abs(code)
        self.action = action
    }

    /// `cannot open a packet socket on eth0: Operation not permitted`.
    public var description: String {
        // glibc's strerror is safe between threads since 2.32.
        let reason = strerror(code).map { String(cString: $0) } ?? "error \(code)"
        return "cannot \(action): \(reason)"
    }

    /// Passes a result of zero or more on and throws what a negative one stands for.
    @discardableResult
    public static func check(_ result: Int32, _ action: @autoclosure () -> String) throws(SystemError) -> Int32 {
        if result < 0 { throw SystemError(result, action()) }
        return result
    }
}
