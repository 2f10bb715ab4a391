// SPDX-License-Identifier: Apache-2.0
import Wire

/// How to reach a host of whose addresses for tunnels some can't be reached just now.
public struct Detour: Sendable, Hashable {
    /// An address that can; `nil`: none is known.
    public var address: IPAddress?
    /// Addresses that can't.
    public var down: Set<IPAddress> = []

    /// None.
    public init() {}

    /// Where to reach what is at `host`, an address or a name: names, and addresses that are not for tunnels, are what they are.
    public func replacing(_ host: String) -> String {
        guard let known = IPAddress(host), down.contains(known), let address else { return host }
        return "\(address)"
    }
}
