// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Owns a file descriptor and closes it at the end of its life.
public final class Descriptor: Sendable {
    /// The number.
    public let number: Int32

    /// Takes ownership of an open descriptor.
    public init(_ number: Int32) { self.number = number }

    deinit { close(number) }
}
