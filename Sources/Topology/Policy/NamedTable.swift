// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections

/// Things of tenants by name. A change copies a few nodes of a tree, and what two tables share is compared without a look
/// inside.
public struct NamedTable<Value: Sendable & Equatable>: Sendable, Equatable {
    private var tenants = TreeDictionary<String, TreeDictionary<String, Value>>()

    /// Nothing.
    public init() {}

    /// A thing by its name.
    public subscript(_ path: DevicePath) -> Value? {
        get { tenants[path.tenant]?[path.name] }
        set {
            if let newValue {
                tenants[path.tenant, default: [:]][path.name] = newValue
            } else {
                tenants[path.tenant]?[path.name] = nil
                if tenants[path.tenant]?.isEmpty == true { tenants[path.tenant] = nil }
            }
        }
    }

    /// All names, in no order.
    public var keys: some Sequence<DevicePath> {
        tenants.lazy.flatMap { tenant, things in things.keys.lazy.map { DevicePath(tenant: tenant, name: $0) } }
    }

    /// Everything, in no order.
    public var values: some Sequence<Value> { tenants.values.lazy.flatMap(\.values) }

    /// What belongs to a tenant, in no order.
    public func values(of tenant: String) -> some Sequence<Value> { (tenants[tenant] ?? [:]).values }

    /// Whether there is nothing.
    public var isEmpty: Bool { tenants.isEmpty }

    /// Names of what is not the same in both.
    func changes(to other: Self) -> Set<DevicePath> {
        if self == other { return [] }
        var changed: Set<DevicePath> = []
        for tenant in Set(tenants.keys).union(other.tenants.keys) {
            let (old, new) = (tenants[tenant] ?? [:], other.tenants[tenant] ?? [:])
            if old == new { continue }
            for (name, value) in old where new[name] != value { changed.insert(.init(tenant: tenant, name: name)) }
            for name in new.keys where old[name] == nil { changed.insert(.init(tenant: tenant, name: name)) }
        }
        return changed
    }
}
