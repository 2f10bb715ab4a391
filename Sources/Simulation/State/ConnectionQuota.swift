// SPDX-License-Identifier: Apache-2.0
import Wire

/// Who a connection is counted to: the port where its first packet came in, and that port's tenant.
public struct ConnectionOwner: Sendable, Hashable {
    /// The port.
    public var port: Tag
    /// Its tenant.
    public var tenant: Tag

    /// An owner.
    public init(port: Tag, tenant: Tag) {
        self.port = port
        self.tenant = tenant
    }
}

/// How many connections there may be, of a port and of a tenant.
public struct ConnectionBounds: Sendable, Equatable {
    /// Of one port.
    public var perPort: Int
    /// Of one tenant.
    public var perTenant: Int

    /// Bounds.
    public init(perPort: Int, perTenant: Int) {
        self.perPort = perPort
        self.perTenant = perTenant
    }
}

/// Counts connections by owner and says whether there may be one more: so that one machine's flood fills neither its
/// tenant's share nor one tenant's everybody's.
struct ConnectionQuota: Sendable {
    /// No owner: told by another host, or made by a device.
    static let nobody: UInt32 = .max

    private struct Entry {
        var owner: ConnectionOwner
        var count: Int
    }
    private var entries: [Entry] = []
    private var free: [UInt32] = []
    private var index: [ConnectionOwner: UInt32] = [:]
    private var tenants: [Tag: Int] = [:]
    /// Bounds of who has no others.
    var standard: ConnectionBounds
    /// Bounds by tenant.
    var bounds: [Tag: ConnectionBounds] = [:]
    /// Connections that were too many, by tenant.
    private(set) var refused: [Tag: UInt64] = [:]

    init(_ standard: ConnectionBounds) { self.standard = standard }

    /// Counts one more for an owner; what to give back later, `nil` when it is too many.
    ///
    /// - Parameters:
    ///   - total: how many there are of all.
    ///   - limit: how many there may be of all.
    mutating func take(_ owner: ConnectionOwner?, total: Int, limit: Int) -> UInt32? {
        guard total < limit else { return refuse(owner) }
        guard let owner else { return ConnectionQuota.nobody }
        let bounds = bounds[owner.tenant] ?? standard
        let ofTenant = tenants[owner.tenant] ?? 0
        // What is left when nearly all is taken is for those who have less than an equal share, one more that may come
        // counted in.
        let isScarce = total >= limit - limit / 8
        guard ofTenant < bounds.perTenant, !isScarce || ofTenant < limit / (tenants.count + 1) else {
            return refuse(owner)
        }
        if let known = index[owner] {
            guard entries[Int(known)].count < bounds.perPort else { return refuse(owner) }
            entries[Int(known)].count += 1
            tenants[owner.tenant] = ofTenant + 1
            return known
        }
        guard bounds.perPort > 0 else { return refuse(owner) }
        let place: UInt32
        if let empty = free.popLast() {
            place = empty
            entries[Int(place)] = Entry(owner: owner, count: 1)
        } else {
            place = UInt32(entries.count)
            entries.append(Entry(owner: owner, count: 1))
        }
        index[owner] = place
        tenants[owner.tenant] = ofTenant + 1
        return place
    }

    private mutating func refuse(_ owner: ConnectionOwner?) -> UInt32? {
        if let owner { refused[owner.tenant, default: 0] &+= 1 }
        return nil
    }

    /// Counts one less.
    mutating func give(back place: UInt32) {
        guard place != ConnectionQuota.nobody else { return }
        let owner = entries[Int(place)].owner
        entries[Int(place)].count -= 1
        let left = (tenants[owner.tenant] ?? 1) - 1
        tenants[owner.tenant] = left > 0 ? left : nil
        if entries[Int(place)].count == 0 {
            index[owner] = nil
            free.append(place)
        }
    }

    /// Connections by tenant.
    var counts: [Tag: Int] { tenants }
}
