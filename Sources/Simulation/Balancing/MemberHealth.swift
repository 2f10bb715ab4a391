// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What checks of a member of a pool came to.
public struct MemberHealth: Sendable, Hashable {
    /// What the last check that counted found.
    public enum Finding: UInt8, Sendable {
        /// It answered as it should.
        case answered = 1
        /// It took no connection: reset, or unreachable port.
        case refused = 2
        /// It did not answer in time.
        case silent = 3
        /// The network does not know the way to it, or nobody there has the address.
        case unreachable = 4
        /// It answered a request with another status: ``MemberHealth/detail``.
        case status = 5
        /// What it answered is no HTTP.
        case noHTTP = 6
        /// TLS could not be agreed on.
        case noTLS = 7
        /// It closed the connection before it had answered.
        case closed = 8
        /// Its interface is gone, or has no carrier.
        case down = 9
    }

    /// Whether it gets new connections.
    public var isUp: Bool
    /// Why.
    public var finding: Finding
    /// The status that it answered with, by HTTP.
    public var detail: UInt16
    /// Since when, milliseconds since 1970.
    public var since: UInt64

    /// A member's health.
    public init(isUp: Bool, _ finding: Finding, detail: UInt16 = 0, since: UInt64) {
        (self.isUp, self.finding, self.detail, self.since) = (isUp, finding, detail, since)
    }

    /// Why, in words.
    public var reason: String {
        switch finding {
        case .answered: detail == 0 ? "answered" : "answered with status \(detail)"
        case .refused: "connection refused"
        case .silent: "no answer in time"
        case .unreachable: "no way to it"
        case .status: "answered with status \(detail)"
        case .noHTTP: "did not answer by HTTP"
        case .noTLS: "TLS failed"
        case .closed: "closed the connection"
        case .down: "its interface is down"
        }
    }
}

extension Tag {
    /// What a pool is in a router: turns, returning clients and checks are its.
    public static func balance(_ pool: DevicePath, router: DevicePath) -> Tag {
        .balance(.pool(pool), zone: .router(router))
    }
}

extension PoolMember {
    /// Tells it from the others of its pool, on every host and in every version alike.
    public var identity: UInt64 { stableHash(name) }
}
