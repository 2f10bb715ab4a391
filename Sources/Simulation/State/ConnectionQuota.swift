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
        /// Its tenant's place.
        var tenant: Int32
    }
    private struct Tenant {
        var tag: Tag
        var count = 0
    }
    private var entries: [Entry] = []
    private var free: [UInt32] = []
    private var index: [ConnectionOwner: UInt32] = [:]
    /// Tenants that have or had connections, and how many have now.
    private var tenants: [Tenant] = []
    private var placeOfTenant: [Tag: Int32] = [:]
    private var activeTenants = 0
    /// The owner of the last connection: they come in trains.
    private var last: UInt32 = ConnectionQuota.nobody
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
        let place = place(of: owner)
        let tenant = Int(entries[Int(place)].tenant)
        let bounds = bounds.isEmpty ? standard : bounds[owner.tenant] ?? standard
        // What is left when nearly all is taken is for those who have less than an equal share, one more that may come
        // counted in.
        let isScarce = total >= limit - limit / 8
        guard tenants[tenant].count < bounds.perTenant, entries[Int(place)].count < bounds.perPort,
            !isScarce || tenants[tenant].count < limit / (activeTenants + 1)
        else {
            if entries[Int(place)].count == 0 { forget(place) }
            return refuse(owner)
        }
        entries[Int(place)].count += 1
        if tenants[tenant].count == 0 { activeTenants += 1 }
        tenants[tenant].count += 1
        return place
    }

    /// The place of an owner, which is made where there is none.
    private mutating func place(of owner: ConnectionOwner) -> UInt32 {
        if last != ConnectionQuota.nobody, entries[Int(last)].owner == owner, entries[Int(last)].count > 0 {
            return last
        }
        if let known = index[owner] {
            last = known
            return known
        }
        let tenant: Int32
        if let known = placeOfTenant[owner.tenant] {
            tenant = known
        } else {
            tenant = Int32(tenants.count)
            placeOfTenant[owner.tenant] = tenant
            tenants.append(Tenant(tag: owner.tenant))
        }
        let entry = Entry(owner: owner, count: 0, tenant: tenant)
        if let empty = free.popLast() {
            last = empty
            entries[Int(empty)] = entry
        } else {
            last = UInt32(entries.count)
            entries.append(entry)
        }
        index[owner] = last
        return last
    }

    private mutating func forget(_ place: UInt32) {
        index[entries[Int(place)].owner] = nil
        free.append(place)
        if last == place { last = ConnectionQuota.nobody }
    }

    private mutating func refuse(_ owner: ConnectionOwner?) -> UInt32? {
        if let owner { refused[owner.tenant, default: 0] &+= 1 }
        return nil
    }

    /// Counts one less.
    mutating func give(back place: UInt32) {
        guard place != ConnectionQuota.nobody else { return }
        let tenant = Int(entries[Int(place)].tenant)
        tenants[tenant].count -= 1
        if tenants[tenant].count == 0 { activeTenants -= 1 }
        entries[Int(place)].count -= 1
        if entries[Int(place)].count == 0 { forget(place) }
    }

    /// Connections by tenant.
    var counts: [Tag: Int] {
        Dictionary(tenants.filter { $0.count > 0 }.map { ($0.tag, $0.count) }, uniquingKeysWith: +)
    }
}
