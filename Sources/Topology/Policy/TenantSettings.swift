// SPDX-License-Identifier: Apache-2.0
import Wire

/// What operators set for a tenant as a whole: how many connections it may have, and how long idle ones are known.
public struct TenantSettings: Sendable, Equatable {
    /// Bounds of what one host keeps for the tenant. What is not said is as ``TenantLimits/standard``.
    public enum Limit: String, Sendable, CaseIterable {
        /// Connections of all its ports.
        case connections
        /// Connections that began at one of its ports.
        case connectionsPerPort
        /// Translated connections of all its ports.
        case translations
        /// Translated connections that began at one of its ports.
        case translationsPerPort
    }

    /// How long connections are known after their last packet.
    public enum Lifetime: String, Sendable, CaseIterable {
        case tcpOpening, tcpEstablished, tcpClosing, tcpClosed, unanswered, udp, icmp, other
    }

    /// The tenant.
    public var name: String
    /// Bounds, 1 to ``largestLimit``.
    public var limits: [Limit: UInt32] = [:]
    /// Lifetimes in seconds, 1 to ``longestLifetime``.
    public var lifetimes: [Lifetime: UInt32] = [:]

    /// The largest bound that may be set.
    public static let largestLimit: UInt32 = 1_048_576
    /// The longest lifetime that may be set, seconds: a week.
    public static let longestLifetime: UInt32 = 604_800

    /// Settings that say nothing.
    public init(name: String) { self.name = name }

    /// What a plan tells of it.
    var fields: [(String, String)] {
        Limit.allCases.compactMap { limit in limits[limit].map { (limit.rawValue, "\($0)") } }
            + Lifetime.allCases.compactMap { lifetime in lifetimes[lifetime].map { (lifetime.rawValue, "\($0) s") } }
    }
}

extension Topology {
    func check(_ settings: TenantSettings, _ found: inout [Problem]) {
        for (limit, value) in settings.limits.sorted(by: { $0.key.rawValue < $1.key.rawValue })
        where !(1...TenantSettings.largestLimit).contains(value) {
            found.append(
                Problem(
                    "tenant \(settings.name)", "\(limit.rawValue) is \(value)",
                    remedy: "use 1 to \(TenantSettings.largestLimit)"))
        }
        for (lifetime, value) in settings.lifetimes.sorted(by: { $0.key.rawValue < $1.key.rawValue })
        where !(1...TenantSettings.longestLifetime).contains(value) {
            found.append(
                Problem(
                    "tenant \(settings.name)", "\(lifetime.rawValue) is \(value) seconds",
                    remedy: "use 1 to \(TenantSettings.longestLifetime)"))
        }
    }
}

extension ByteWriter {
    mutating func settings(_ settings: TenantSettings) {
        text(settings.name)
        list(settings.limits.sorted { $0.key.rawValue < $1.key.rawValue }) { out, entry in
            out.text(entry.key.rawValue)
            out.number(entry.value)
        }
        list(settings.lifetimes.sorted { $0.key.rawValue < $1.key.rawValue }) { out, entry in
            out.text(entry.key.rawValue)
            out.number(entry.value)
        }
    }
}

extension ByteReader {
    mutating func settings() throws(MalformedBytes) -> TenantSettings {
        var settings = TenantSettings(name: try name())
        for _ in 0..<(try count()) {
            guard let limit = TenantSettings.Limit(rawValue: try text()) else {
                throw MalformedBytes("a bound that a later version wrote")
            }
            settings.limits[limit] = try number()
        }
        for _ in 0..<(try count()) {
            guard let lifetime = TenantSettings.Lifetime(rawValue: try text()) else {
                throw MalformedBytes("a lifetime that a later version wrote")
            }
            settings.lifetimes[lifetime] = try number()
        }
        return settings
    }
}
