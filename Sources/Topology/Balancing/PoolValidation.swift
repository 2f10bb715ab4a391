// SPDX-License-Identifier: Apache-2.0
import Wire

/// What can be wrong with pools and virtual addresses.
extension Topology {
    func check(_ pool: Pool, _ found: inout [Problem]) {
        let name = "pool \(pool.path)"
        if pool.members.count > Pool.membersPerPool {
            found.append(
                Problem(
                    name, "has \(pool.members.count) members, \(Pool.membersPerPool) at most",
                    remedy: "spread them over several pools"))
        }
        if let seconds = pool.persistence, seconds < 1 || seconds > Pool.longestPersistence {
            found.append(
                Problem(
                    name, "persistence is \(seconds) s", remedy: "use 1 to \(Pool.longestPersistence), or leave it out")
            )
        }
        if let monitor = pool.monitor { check(monitor, of: pool, &found) }
        var seen: Set<String> = []
        for member in pool.members {
            let own = "\(name) member \(member.name)"
            if !seen.insert(member.name).inserted {
                found.append(Problem(own, "is there twice", remedy: "give it a larger weight instead"))
            }
            if !isHost(member.address) {
                found.append(
                    Problem(
                        own, "\(member.address) is no address of a machine",
                        remedy: "name addresses that machines can have"))
            }
            if member.port == 0 {
                found.append(Problem(own, "port 0 is none", remedy: "use 1 to 65535, or leave it out"))
            }
            if member.weight > PoolMember.largestWeight {
                found.append(
                    Problem(own, "weight is \(member.weight)", remedy: "use 0 to \(PoolMember.largestWeight)"))
            }
        }
    }

    private func check(_ monitor: HealthMonitor, of pool: Pool, _ found: inout [Problem]) {
        let name = "pool \(pool.path) monitor"
        if !HealthMonitor.times.contains(monitor.delay) || !HealthMonitor.times.contains(monitor.timeout)
            || monitor.timeout > monitor.delay
        {
            found.append(
                Problem(
                    name, "delay is \(monitor.delay) ms and timeout \(monitor.timeout) ms",
                    remedy: "use 0.1 to 3600 seconds, and no timeout that is longer than the delay"))
        }
        if !HealthMonitor.counts.contains(monitor.rise) || !HealthMonitor.counts.contains(monitor.fall) {
            found.append(
                Problem(
                    name, "rise is \(monitor.rise) and fall \(monitor.fall)",
                    remedy: "use \(HealthMonitor.counts.lowerBound) to \(HealthMonitor.counts.upperBound)"))
        }
        if !HealthMonitor.isPath(monitor.path) || monitor.host.map({ !HealthMonitor.isHostName($0) }) ?? false
            || monitor.statuses.isEmpty || monitor.statuses.count > 16
        {
            found.append(
                Problem(
                    name, "asks what can't be asked",
                    remedy: "use a path such as /healthz, a host name, and up to 16 ranges of statuses"))
        }
        if monitor.hasPort, monitor.port == nil, let member = pool.members.first(where: { $0.port == nil }) {
            found.append(
                Problem(
                    name, "does not know which port of member \(member.name) to ask",
                    remedy: "say the monitor's port, or the member's"))
        }
    }

    func checkVirtualAddresses(of router: Router, _ found: inout [Problem]) {
        let list = router.translation.virtual
        if list.count > VirtualAddress.perRouter {
            found.append(
                Problem(
                    router.path, "has \(list.count) virtual addresses, \(VirtualAddress.perRouter) at most",
                    remedy: "spread them over several routers"))
        }
        let floating = Set(router.translation.floating.map(\.address))
        let addresses = Set(list.map(\.address))
        var ids: Set<String> = []
        var taken: [IPAddress: [VirtualAddress]] = [:]
        for virtual in list {
            let name = "\(router.path) virtual address \(virtual.id)"
            func problem(_ reason: String, _ remedy: String) { found.append(Problem(name, reason, remedy: remedy)) }
            if !ids.insert(virtual.id).inserted {
                problem("is there twice", "give each virtual address of a router an id of its own")
            }
            if !isHost(virtual.address) {
                problem("\(virtual.address) is no address of a machine", "name an address that machines can have")
            }
            if floating.contains(virtual.address) {
                problem("\(virtual.address) is a floating address of the router", "use another for one of them")
            }
            if ![IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp].contains(virtual.ipProtocol) {
                problem("\(IPProtocol.name(of: virtual.ipProtocol)) has no ports", "use tcp, udp or sctp")
            }
            if virtual.ports.isEmpty || virtual.ports.count > VirtualAddress.rangesPerAddress {
                problem(
                    "has \(virtual.ports.count) ranges of ports",
                    "use 1 to \(VirtualAddress.rangesPerAddress)")
            }
            for range in virtual.ports.sorted() {
                if range.first > range.last {
                    problem("range \(range) ends before it begins", "write \(range.last)-\(range.first)")
                } else if range.first == 0 {
                    problem("port 0 is none", "begin at 1")
                }
            }
            let rivals = taken[virtual.address] ?? []
            if let other = rivals.first(where: { $0.isAsked(likeOneOf: virtual) }) {
                problem("is asked by the same port as \(other.id)", "give each port to one of them")
            }
            taken[virtual.address, default: []].append(virtual)
            guard let pool = pools[DevicePath(tenant: router.path.tenant, name: virtual.pool)] else {
                problem(
                    "pool \(virtual.pool) does not exist",
                    "add the pool to tenant \(router.path.tenant), or name another")
                continue
            }
            if let member = pool.members.first(where: { addresses.contains($0.address) }) {
                problem(
                    "member \(member.name) of pool \(virtual.pool) is a virtual address itself",
                    "name the servers behind it")
            }
        }
    }
}

extension VirtualAddress {
    /// Whether a packet may be for both.
    fileprivate func isAsked(likeOneOf other: VirtualAddress) -> Bool {
        ipProtocol == other.ipProtocol
            && ports.contains { mine in other.ports.contains { mine.first <= $0.last && $0.first <= mine.last } }
    }
}
