// SPDX-License-Identifier: Apache-2.0
import Store
import Topology
import Wire

/// A pool of servers in JSON. Behind which addresses they are, routers say.
public struct PoolResource: Codable, Sendable, Equatable {
    /// `tenant/pool`.
    public var name: String?
    /// `round-robin`, `least-connections`, `source-hash` or `maglev`; by turns unless said.
    public var algorithm: String?
    /// How long a client comes to the same member after its last new connection, seconds.
    public var persistence: Int?
    /// How they are checked; not at all unless said.
    public var monitor: MonitorResource?
    /// The servers.
    public var members: [PoolMemberResource]?
    /// The revision that made it.
    public var created: UInt64?
    /// The revision that changed it last.
    public var revision: UInt64?

    init(_ pool: Pool, _ version: ClusterState.Version?) {
        name = pool.path.description
        algorithm = pool.algorithm.rawValue
        persistence = pool.persistence.map { Int($0) }
        monitor = pool.monitor.map(MonitorResource.init)
        members = pool.members.map(PoolMemberResource.init)
        (created, revision) = (version?.created, version?.modified)
    }

    func object(_ path: DevicePath) throws(APIError) -> TopologyObject {
        var pool = Pool(path: path)
        if let algorithm {
            guard let read = Pool.Algorithm(rawValue: algorithm) else {
                let known = Pool.Algorithm.allCases.map(\.rawValue).joined(separator: ", ")
                throw .invalid("pool \(path)", "algorithm is \"\(algorithm)\"", "use \(known)")
            }
            pool.algorithm = read
        }
        if let persistence {
            guard let seconds = UInt32(exactly: persistence) else {
                throw .invalid(
                    "pool \(path)", "persistence is \(persistence)", "use 1 to \(Pool.longestPersistence) seconds")
            }
            pool.persistence = seconds
        }
        pool.monitor = try monitor?.read("pool \(path) monitor")
        for member in members ?? [] { pool.members.append(try member.read("pool \(path)", pool.members.count + 1)) }
        return .pool(pool)
    }
}

/// How members of a pool are checked, in JSON.
public struct MonitorResource: Codable, Sendable, Equatable {
    /// `tcp`, `http`, `https`, `udp` or `ping`.
    public var type: String
    /// The port that is asked; the member's own unless said.
    public var port: Int?
    /// The path of a request; `/` unless said.
    public var path: String?
    /// The name that a request is for; the member's address unless said.
    public var host: String?
    /// Statuses that are good, `200` or `200-299`; 200-299 unless said.
    public var status: [String]?
    /// From one check to the next, seconds; 2 unless said.
    public var delay: Double?
    /// How long an answer may take, seconds; 1 unless said.
    public var timeout: Double?
    /// Good answers in a row that bring a member back; 2 unless said.
    public var rise: Int?
    /// Checks in a row that fail before a member gets nothing new; 3 unless said.
    public var fall: Int?

    init(_ monitor: HealthMonitor) {
        type = monitor.kind.rawValue
        port = monitor.port.map { Int($0) }
        if monitor.isHTTP {
            path = monitor.path
            host = monitor.host
            status = monitor.said.first { $0.name == "status" }?.values ?? ["200-299"]
        }
        delay = Double(monitor.delay) / 1000
        timeout = Double(monitor.timeout) / 1000
        (rise, fall) = (Int(monitor.rise), Int(monitor.fall))
    }

    func read(_ object: String) throws(APIError) -> HealthMonitor {
        var fields = [(name: "type", values: [type])]
        if let port { fields.append(("port", ["\(port)"])) }
        if let path { fields.append(("path", [path])) }
        if let host { fields.append(("host", [host])) }
        if let status { fields.append(("status", status)) }
        for (name, value) in [("delay", delay), ("timeout", timeout)] {
            guard let value else { continue }
            guard let time = Int(exactly: (value * 1000).rounded()), (0...Int(UInt32.max)).contains(time) else {
                throw .invalid(object, "\(name) is \(value)", "use 0.1 to 3600 seconds")
            }
            let rest = String(1000 + time % 1000).dropFirst()
            fields.append((name, ["\(time / 1000).\(rest)"]))
        }
        if let rise { fields.append(("rise", ["\(rise)"])) }
        if let fall { fields.append(("fall", ["\(fall)"])) }
        do throws(RuleMistake) { return try HealthMonitor(reading: fields) } catch {
            throw .invalid(object, "\(error.field) \(error.reason)", error.remedy)
        }
    }
}

/// A server of a pool in JSON.
public struct PoolMemberResource: Codable, Sendable, Equatable {
    /// Its address.
    public var address: String
    /// Its port; the one that was asked for unless said.
    public var port: Int?
    /// Its share, against those of the others; 1 unless said.
    public var weight: Int?
    /// `up`, `drain` or `down`; up unless said.
    public var state: String?

    /// A member as it is.
    public init(_ member: PoolMember) {
        address = member.address.description
        port = member.port.map { Int($0) }
        weight = Int(member.weight)
        state = member.state.rawValue
    }

    func read(_ pool: String, _ place: Int) throws(APIError) -> PoolMember {
        var fields = [(name: "address", values: [address])]
        if let port { fields.append(("port", ["\(port)"])) }
        if let weight { fields.append(("weight", ["\(weight)"])) }
        if let state { fields.append(("state", [state])) }
        do throws(RuleMistake) { return try PoolMember(reading: fields) } catch {
            throw .invalid("\(pool) member \(place)", "\(error.field) \(error.reason)", error.remedy)
        }
    }
}

/// A virtual address of a router in JSON.
public struct VirtualAddressResource: Codable, Sendable, Equatable {
    /// Names it in its router; its place unless said.
    public var id: String?
    /// The address that clients ask.
    public var address: String
    /// `tcp`, `udp` or `sctp`; TCP unless said.
    public var `protocol`: String?
    /// The ports that clients ask: `80`, `8000-8999`.
    public var ports: [String]
    /// The pool that serves them.
    public var pool: String

    init(_ virtual: VirtualAddress) {
        id = virtual.id
        address = virtual.address.description
        `protocol` = IPProtocol.name(of: virtual.ipProtocol)
        ports = virtual.ports.sorted().map(\.description)
        pool = virtual.pool
    }

    func read(_ router: DevicePath, _ place: Int) throws(APIError) -> VirtualAddress {
        let id = id ?? "\(place)"
        let object = "\(router) virtual address \(id)"
        guard isValidName(id) else {
            throw .invalid(object, "id is \"\(id)\"", "use up to 63 letters, digits, -, _ and .")
        }
        var fields = [(name: "address", values: [address]), ("port", ports), ("pool", [pool])]
        if let `protocol` { fields.append(("protocol", [`protocol`])) }
        do throws(RuleMistake) { return try VirtualAddress(reading: fields, id: id) } catch {
            throw .invalid(object, "\(error.field) \(error.reason)", error.remedy)
        }
    }
}
