// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Sets what the kernel is to do in this thread's network namespace, as `net/ipv4/ip_forward`; what it does not know is left alone.
public func setSysctl(_ name: String, _ value: String) {
    let file = Glibc.open("/proc/sys/\(name)", O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { return }
    _ = write(file, value, value.utf8.count)
    close(file)
}

/// Whether the kernel has IPv6.
public var kernelHasIPv6: Bool { access("/proc/net/if_inet6", F_OK) == 0 }
