// SPDX-License-Identifier: Apache-2.0
import Wire

/// Ports that rules name together. Which they are, the ports say: see ``Port/groups``.
public struct PortGroup: Sendable, Equatable {
    /// Its name; port groups have a set of names of their own in a tenant.
    public var path: DevicePath
    /// Whether its ports stand in for each other: what leaves by one may come back by any of them. What the hosts of all
    /// have to know of a connection they are told before its first packet goes on.
    public var isStateful = false

    /// An empty group.
    public init(path: DevicePath, isStateful: Bool = false) {
        self.path = path
        self.isStateful = isStateful
    }
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
