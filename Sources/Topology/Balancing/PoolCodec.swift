// SPDX-License-Identifier: Apache-2.0
import Wire

/// Pools and virtual addresses as bytes; see `ObjectCodec.swift` for what holds for all objects.
extension ByteWriter {
    mutating func pool(_ pool: Pool) {
        path(pool.path)
        number(pool.algorithm.code)
        optional(pool.persistence) { $0.number($1) }
        list(pool.members) { out, member in
            out.address(member.address)
            out.optional(member.port) { $0.number($1) }
            out.number(member.weight)
            out.number(member.state.code)
        }
    }

    mutating func monitor(_ monitor: HealthMonitor) {
        number(monitor.kind.code)
        optional(monitor.port) { $0.number($1) }
        text(monitor.path)
        optional(monitor.host) { $0.text($1) }
        list(monitor.statuses) { out, range in
            out.number(range.lowerBound)
            out.number(range.upperBound)
        }
        number(monitor.delay)
        number(monitor.timeout)
        number(monitor.rise)
        number(monitor.fall)
    }

    mutating func virtualAddresses(_ list: [VirtualAddress]) {
        self.list(list) { out, virtual in
            out.text(virtual.id)
            out.address(virtual.address)
            out.number(virtual.ipProtocol)
            out.list(virtual.ports.sorted()) { $0.range($1) }
            out.text(virtual.pool)
        }
    }
}

extension ByteReader {
    mutating func pool() throws(MalformedBytes) -> Pool {
        var pool = Pool(path: try devicePath())
        let code: UInt8 = try number()
        guard let algorithm = Pool.Algorithm.allCases.first(where: { $0.code == code }) else {
            throw MalformedBytes("a pool that chooses in the way \(code), which a later version wrote")
        }
        pool.algorithm = algorithm
        pool.persistence = try flag() ? try number() : nil
        pool.members = try list { reader throws(MalformedBytes) in
            var member = PoolMember(try reader.address(), port: try reader.flag() ? try reader.number() : nil)
            member.weight = try reader.number()
            let code: UInt8 = try reader.number()
            guard let state = PoolMember.State.allCases.first(where: { $0.code == code }) else {
                throw MalformedBytes("a member in state \(code), which a later version wrote")
            }
            member.state = state
            return member
        }
        return pool
    }

    mutating func monitor() throws(MalformedBytes) -> HealthMonitor {
        let code: UInt8 = try number()
        guard let kind = HealthMonitor.Kind.allCases.first(where: { $0.code == code }) else {
            throw MalformedBytes("a monitor of kind \(code), which a later version wrote")
        }
        var monitor = HealthMonitor(kind)
        monitor.port = try flag() ? try number() : nil
        monitor.path = try text()
        monitor.host = try flag() ? try text() : nil
        monitor.statuses = try list { reader throws(MalformedBytes) in
            let (first, last): (UInt16, UInt16) = (try reader.number(), try reader.number())
            guard first <= last else { throw MalformedBytes("statuses that end before they begin") }
            return first...last
        }
        monitor.delay = try number()
        monitor.timeout = try number()
        monitor.rise = try number()
        monitor.fall = try number()
        return monitor
    }

    mutating func virtualAddresses() throws(MalformedBytes) -> [VirtualAddress] {
        try list { reader throws(MalformedBytes) in
            VirtualAddress(
                id: try reader.name(), try reader.address(), ipProtocol: try reader.number(),
                ports: Set(try reader.list { reader throws(MalformedBytes) in try reader.range() }),
                pool: try reader.name())
        }
    }
}

extension Pool.Algorithm {
    fileprivate var code: UInt8 {
        switch self {
        case .roundRobin: 1
        case .leastConnections: 2
        case .sourceHash: 3
        case .maglev: 4
        }
    }
}

extension HealthMonitor.Kind {
    fileprivate var code: UInt8 {
        switch self {
        case .tcp: 1
        case .http: 2
        case .https: 3
        case .udp: 4
        case .ping: 5
        }
    }
}

extension PoolMember.State {
    fileprivate var code: UInt8 {
        switch self {
        case .up: 1
        case .drain: 2
        case .down: 3
        }
    }
}
