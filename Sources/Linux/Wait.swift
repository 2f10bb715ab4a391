// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Waits until a descriptor can be read, or for a time.
///
/// - Parameter timeoutMilliseconds: -1 waits for ever.
/// - Returns: whether it can be read.
@discardableResult
public func waitReadable(_ descriptor: Int32, timeoutMilliseconds: Int32 = -1) -> Bool {
    var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return Glibc.poll(&poll, 1, timeoutMilliseconds) > 0
}
