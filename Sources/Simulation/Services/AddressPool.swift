// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// Addresses that machines of one network are given for a time.
struct AddressPool: Sendable {
    var ranges: [DHCPRange]
    /// Addresses among them that nobody is given.
    var reserved: Set<IPAddress>
    /// How many addresses the ranges have.
    let count: Int

    init(_ ranges: [DHCPRange], reserved: Set<IPAddress>) {
        self.ranges = ranges
        self.reserved = reserved
        count = ranges.reduce(0) { $0 + $1.count }
    }

    /// An address of the ranges; `index` is below ``count``.
    func address(_ index: Int) -> IPAddress? {
        var left = index
        for range in ranges {
            if left < range.count { return range.first.advanced(by: left) }
            left -= range.count
        }
        return nil
    }

    /// Whether an address is one of the ranges, and nobody's by name.
    func gives(_ address: IPAddress) -> Bool {
        ranges.contains { $0.first <= address && address <= $0.last } && !reserved.contains(address)
    }
}

/// How hosts share addresses: each gives of its own first, so that two that are asked at once give none twice.
struct AddressShare: Sendable {
    private let count: UInt64
    private let own: UInt64

    init(of local: String, among hosts: [String]) {
        count = UInt64(max(1, hosts.count))
        own = UInt64(hosts.sorted().firstIndex(of: local) ?? 0)
    }

    /// Whether this host gives an address ahead of the others.
    func isOwn(_ address: IPAddress) -> Bool {
        mix(address.high ^ address.low &* 0x9fb2_1c65_1e98_df25 | 1, 0x9e37_79b9_7f4a_7c15) >> 7 % count == own
    }
}

/// A machine that asks for an address.
struct LeaseClient {
    /// Tells it from others; not 0.
    var identity: UInt64
    /// Where it asks.
    var port: PortRecord
    var pool: AddressPool
    /// The address that the topology says is its own.
    var own: IPAddress?
    /// How long it is given one, seconds.
    var seconds: UInt32
}

/// Leases are rows that all hosts have, so that whichever is asked next knows them.
extension Simulator {
    /// Addresses of ranges that are looked at for one machine.
    private static let lookedAt = 1024
    /// How long an address is given to nobody that a machine found in use, seconds.
    private static let declined: UInt32 = 600

    private func bridge(_ client: LeaseClient) -> Tag { fabric.bridges[Int(client.port.device)].tag }

    /// Whether a machine has leased an address.
    func hasLease(_ address: IPAddress, _ client: LeaseClient) -> Bool {
        state.lease(of: address, bridge: bridge(client))?.client == client.identity
    }

    private func isFree(_ address: IPAddress, for client: LeaseClient) -> Bool {
        state.lease(of: address, bridge: bridge(client)).map { $0.client == client.identity } ?? true
    }

    /// Whether the topology says who has an address.
    private func isDeclared(_ address: IPAddress, _ client: LeaseClient) -> Bool {
        fabric.neighbor(bridge: client.port.device, vlan: 0, address: address) != nil
    }

    /// What a machine was given and has still.
    func held(_ client: LeaseClient) -> IPAddress? {
        state.address(of: client.identity, bridge: bridge(client))
            .flatMap { client.pool.gives($0) && !isDeclared($0, client) ? $0 : nil }
    }

    /// Whether a machine may go on with an address, or begin with it.
    func mayHave(_ address: IPAddress, _ client: LeaseClient) -> Bool {
        if let own = client.own { return own == address }
        // One address for one machine.
        if let held = held(client) { return held == address }
        return client.pool.gives(address) && !isDeclared(address, client) && isFree(address, for: client)
    }

    /// An address for a machine: its own, the one that it has, the one that it asks for, or a free one.
    func find(_ client: LeaseClient, asked: IPAddress?, _ share: AddressShare) -> IPAddress? {
        if let own = client.own { return own }
        if let held = held(client) { return held }
        let total = client.pool.count
        guard total > 0 else { return nil }
        if let asked, mayHave(asked, client), share.isOwn(asked) { return asked }
        let start = Int(truncatingIfNeeded: mix(client.identity, 0xa076_1d64_78bd_642f) >> 33) % total
        var other: IPAddress?
        for step in 0..<min(total, Self.lookedAt) {
            guard let address = client.pool.address((start + step) % total), other == nil || share.isOwn(address),
                client.pool.gives(address), state.lease(of: address, bridge: bridge(client)) == nil,
                !isDeclared(address, client)
            else { continue }
            if share.isOwn(address) { return address }
            other = address
        }
        return other
    }

    /// Notes that a machine has an address from now on.
    mutating func take(_ address: IPAddress, _ client: LeaseClient) {
        if client.own == nil { note(address, client, Lease(client: client.identity, seconds: client.seconds)) }
    }

    /// Notes that an address is in use by somebody else: nobody is given it for a while.
    mutating func decline(_ address: IPAddress, _ client: LeaseClient) {
        note(address, client, Lease(client: 0, seconds: Self.declined))
    }

    /// Notes that an address is free: by the shortest lease of nobody's, of which the others hear as of any.
    mutating func giveBack(_ address: IPAddress, _ client: LeaseClient) {
        note(address, client, Lease(client: 0, seconds: 1))
    }

    private mutating func note(_ address: IPAddress, _ client: LeaseClient, _ lease: Lease) {
        verdict.learned.append(.lease(address, bridge: bridge(client), port: client.port.tag, lease))
    }
}
