// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import Wire

/// A destination that the daemon of an uplink knows a way to.
public struct RouteKey: LearnedKey {
    /// The destination.
    public var prefix: Prefix
    /// The uplink.
    public var port: Tag

    /// A destination by an uplink.
    public init(_ prefix: Prefix, port: Tag) {
        self.prefix = prefix
        self.port = port
    }

    static var kind: RowKind { .route }
    /// That there is no way stays known for longer than anybody may remember that there was one.
    static func lifetime(_ value: UplinkRoute) -> UInt64 {
        value.gateways.isEmpty ? StateLimits.routeLifetimeNanoseconds / 4 * 5 : StateLimits.routeLifetimeNanoseconds
    }
    var digestKey: UInt64 { tag.bits }
    var family: AddressFamily { prefix.family }
    /// Nothing is decided by it: the routers' tables are made of what changes.
    var tag: Tag {
        Tag(bits: mix(port.bits ^ prefix.address.high, prefix.address.low ^ UInt64(prefix.length) << 56 | 0x407e))
    }
    func port(_ value: UplinkRoute) -> Tag { port }
    static func digest(_ value: UplinkRoute) -> UInt64 {
        value.gateways.reduce(mix(UInt64(value.metric), UInt64(value.gateways.count) | 1 << 63)) {
            mix($0 ^ $1.high, $1.low | 1 << 63)
        }
    }
    func writeKey(into out: inout ByteWriter) {
        out.number(UInt8(prefix.length))
        out.words(prefix.address)
        out.number(port.bits)
    }
    func write(_ value: UplinkRoute, into out: inout ByteWriter) {
        writeKey(into: &out)
        out.number(value.metric)
        out.number(UInt8(value.gateways.count))
        for gateway in value.gateways {
            out.number(RowForm.head(Self.kind, gateway.family))
            out.words(gateway)
        }
    }
    init(reading reader: inout ByteReader, _ form: UInt8) throws(MalformedBytes) {
        let family = RowForm.family(form)
        let length = Int(try reader.number(UInt8.self))
        let address = try reader.words(family)
        guard length <= family.width, address.masked(length) == address else {
            throw MalformedBytes("a route to no network")
        }
        prefix = Prefix(address, length: length)
        port = try reader.tag()
    }
    static func value(reading reader: inout ByteReader) throws(MalformedBytes) -> UplinkRoute {
        let metric: UInt32 = try reader.number()
        let count: UInt8 = try reader.number()
        guard Int(count) <= UplinkRoute.mostGateways else { throw MalformedBytes("a route by \(count) routers") }
        var gateways: [IPAddress] = []
        for _ in 0..<count {
            let form: UInt8 = try reader.number()
            gateways.append(try reader.words(RowForm.family(form)))
        }
        return UplinkRoute(gateways: gateways, metric: metric)
    }
    func learned(_ value: UplinkRoute) -> Learned? { nil }
}

/// Routes that changed since they were last asked for.
final class RouteNews: Sendable {
    private let keys = Mutex<Set<RouteKey>>([])
    private let tell = Mutex<(@Sendable () -> Void)?>(nil)

    func add(_ key: RouteKey) {
        let isFirst = keys.withLock { keys in
            defer { keys.insert(key) }
            return keys.isEmpty
        }
        if isFirst { tell.withLock { $0 }?() }
    }

    func take() -> Set<RouteKey> {
        keys.withLock { keys in
            defer { keys = [] }
            return keys
        }
    }

    func set(_ tell: (@Sendable () -> Void)?) { self.tell.withLock { $0 = tell } }
}

extension StateTable {
    /// Takes note of what the daemon of an uplink here says of a destination.
    public func learn(_ key: RouteKey, _ route: UplinkRoute, now: UInt64, told: inout ToldEntries) -> LearnOutcome {
        routes.learn(key, route, now: now, &told)
    }

    /// What the daemon of an uplink says of a destination; `nil`: it was never there, or that is forgotten.
    public func route(_ key: RouteKey) -> UplinkRoute? { routes[key] }

    /// All that daemons of uplinks said, with what is not so any more.
    public var allRoutes: [(key: RouteKey, route: UplinkRoute)] {
        var list: [(key: RouteKey, route: UplinkRoute)] = []
        routes.forEach { key, route, _ in list.append((key, route)) }
        return list
    }

    /// What changed since this was last called.
    public func takeRouteNews() -> Set<RouteKey> { routeNews.take() }

    /// Puts back what was taken: it comes again the next time.
    public func retakeRouteNews(_ keys: Set<RouteKey>) { for key in keys { routeNews.add(key) } }

    /// Sets who is told that there is something to take; called with locks held, so it must be quick.
    public func onRouteNews(_ tell: (@Sendable () -> Void)?) { routeNews.set(tell) }
}

extension ByteReader {
    /// Goes past the routers of a route and its stamp.
    mutating func skipGateways() throws(MalformedBytes) {
        let count: UInt8 = try number()
        for _ in 0..<count {
            let form: UInt8 = try number()
            _ = try words(RowForm.family(form))
        }
        _ = try raw(8)
    }
}
