// SPDX-License-Identifier: Apache-2.0

/// The name of a bridge or router: `tenant/device`.
public struct DevicePath: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Name of the tenant.
    public let tenant: String
    /// Name of the device inside the tenant.
    public let name: String

    /// A path of two names; see ``isValidName(_:)``.
    public init(tenant: String, name: String) {
        self.tenant = tenant
        self.name = name
    }

    /// Reads `tenant/device`.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, isValidName(parts[0]), isValidName(parts[1]) else { return nil }
        self.init(tenant: String(parts[0]), name: String(parts[1]))
    }

    /// `tenant/device`.
    public var description: String { "\(tenant)/\(name)" }

    /// Alphabetical.
    public static func < (a: DevicePath, b: DevicePath) -> Bool { (a.tenant, a.name) < (b.tenant, b.name) }
}

/// The name of a port: `tenant/device/port`.
public struct PortPath: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The device that the port belongs to.
    public let device: DevicePath
    /// Name of the port on its device.
    public let name: String

    /// A port of a device.
    public init(device: DevicePath, name: String) {
        self.device = device
        self.name = name
    }

    /// Reads `tenant/device/port`.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3, parts.allSatisfy({ isValidName($0) }) else { return nil }
        self.init(device: DevicePath(tenant: String(parts[0]), name: String(parts[1])), name: String(parts[2]))
    }

    /// `tenant/device/port`.
    public var description: String { "\(device)/\(name)" }

    /// Alphabetical.
    public static func < (a: PortPath, b: PortPath) -> Bool { (a.device, a.name) < (b.device, b.name) }
}

/// Whether a text can name a tenant, device, port or host: 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a
/// letter or digit. Such names pass through paths, labels and file names without quoting.
public func isValidName(_ text: some StringProtocol) -> Bool {
    let bytes = text.utf8
    guard (1...63).contains(bytes.count), let first = bytes.first, isAlphanumeric(first) else { return false }
    return bytes.allSatisfy {
        isAlphanumeric($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".")
    }
}

private func isAlphanumeric(_ byte: UInt8) -> Bool {
    (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
}

/// A 64-bit hash of a name that is the same on every node and in every run (FNV-1a with a finishing mix).
public func stableHash(_ text: String) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in text.utf8 {
        hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }
    hash ^= hash >> 33
    hash = hash &* 0xff51_afd7_ed55_8ccd
    hash ^= hash >> 33
    return hash
}
