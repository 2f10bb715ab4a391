// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Topology

/// What names that machines ask for are looked up by, besides what they say: bridges by tenant, and those bridges and ports that
/// are written with capital letters, for a name is the same in all of them (RFC 4343).
struct NameTable: Sendable {
    private(set) var bridgesOfTenant = TreeDictionary<String, [Int32]>()
    private var bridges: [DevicePath: Int32] = [:]
    private var ports: [PortPath: Int32] = [:]

    mutating func add(_ path: DevicePath, _ index: Int32) {
        bridgesOfTenant[path.tenant, default: []].append(index)
        if let folded = folded(path) { bridges[folded] = index }
    }

    mutating func remove(_ path: DevicePath, _ index: Int32) {
        bridgesOfTenant[path.tenant]?.removeAll { $0 == index }
        if bridgesOfTenant[path.tenant]?.isEmpty == true { bridgesOfTenant[path.tenant] = nil }
        if let folded = folded(path), bridges[folded] == index { bridges[folded] = nil }
    }

    mutating func add(_ path: PortPath, _ index: Int32) {
        if let folded = folded(path) { ports[folded] = index }
    }

    mutating func remove(_ path: PortPath, _ index: Int32) {
        if let folded = folded(path), ports[folded] == index { ports[folded] = nil }
    }

    /// The bridge of a name in small letters that is written otherwise.
    func bridge(_ path: DevicePath) -> Int32? { bridges.isEmpty ? nil : bridges[path] }
    /// The port of a name in small letters that is written otherwise, on a bridge as that is written.
    func port(_ path: PortPath) -> Int32? { ports.isEmpty ? nil : ports[path] }

    private func folded(_ path: DevicePath) -> DevicePath? {
        let name = path.name.lowercased()
        return name == path.name ? nil : DevicePath(tenant: path.tenant, name: name)
    }

    private func folded(_ path: PortPath) -> PortPath? {
        let name = path.name.lowercased()
        return name == path.name ? nil : PortPath(device: path.device, name: name)
    }
}
