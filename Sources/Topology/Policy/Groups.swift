// SPDX-License-Identifier: Apache-2.0
import Wire

/// Ports that rules name together. Which they are, the ports say: see ``Port/groups``.
public struct PortGroup: Sendable, Equatable {
    /// Its name; port groups have a set of names of their own in a tenant.
    public var path: DevicePath

    /// An empty group.
    public init(path: DevicePath) { self.path = path }
}

/// Addresses that rules name together: thousands cost no more than one.
public struct AddressGroup: Sendable, Equatable {
    /// Its name; address groups have a set of names of their own in a tenant.
    public var path: DevicePath
    /// The addresses, IPv4 and IPv6.
    public var members: Set<Prefix> = []

    /// Members of one group, at most.
    public static let membersPerGroup = 65_536

    /// An empty group.
    public init(path: DevicePath) { self.path = path }
}
