// SPDX-License-Identifier: Apache-2.0
import Simulation
import TestSupport
import Testing
import Topology
import Wire

/// Groups against a list of who joined what, which is all that a tenant has to know of them.
@Suite struct GroupModelTests {
    private static let drawing = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
        tenants:
          t:
            bridges:
              a:
                multicast: true
                ports:
                  p1: { host: h1, interface: i1, mac: "0e:00:00:00:00:01", address: [10.0.1.1/24, "fd00:1::1/64"] }
                  p2: { host: h1, interface: i2, mac: "0e:00:00:00:00:02", address: [10.0.1.2/24, "fd00:1::2/64"] }
                  p3: { host: h1, interface: i3, mac: "0e:00:00:00:00:03", address: [10.0.1.3/24, "fd00:1::3/64"] }
                  p4: { host: h2, interface: i4, mac: "0e:00:00:00:00:04", address: [10.0.1.4/24, "fd00:1::4/64"] }
                  p5: { host: h2, interface: i5, mac: "0e:00:00:00:00:05", address: [10.0.1.5/24, "fd00:1::5/64"] }
        """

    private struct Membership: Hashable {
        var port: String
        var group: IPAddress
        /// The source that it is for; `nil`: all.
        var source: IPAddress?
    }

    /// Groups that are joined for all sources, and some that are joined source by source (IGMPv3).
    private let groups = ["239.1.1.1", "239.1.1.2", "ff15::1", "ff15::2"].map(address)
    private let chosen = ["232.1.1.1", "232.1.1.2"].map(address)

    /// An IGMPv3 report of one record with one source: 5 allows, 6 blocks (RFC 3376 section 4.2.12).
    private func report(_ host: Host, _ port: String, _ type: UInt8, _ group: IPAddress, _ source: IPAddress) -> [UInt8]
    {
        var message: [UInt8] = [0x22, 0, 0, 0, 0, 0, 0, 1, type, 0, 0, 1]
        for address in [group, source] {
            message += (0..<4).map { UInt8(truncatingIfNeeded: address.high >> UInt64(56 - 8 * $0)) }
        }
        let sum = message.withUnsafeBytes { InternetChecksum.of($0) }
        (message[2], message[3]) = (UInt8(sum >> 8), UInt8(sum & 0xff))
        let all = address("224.0.0.22")
        return Frame.ip(
            etherSource: host.mac(port), etherDestination: .multicast(for: all), source: address("10.0.1.9"),
            destination: all, ipProtocol: 2, ttl: 1, payload: message)
    }

    /// Where a frame comes out, on all hosts.
    private func delivered(_ frame: [UInt8], at port: String, _ hosts: [String: Host], _ from: String) -> [String] {
        guard let host = hosts[from] else { return [] }
        var found: [String] = []
        for output in host.send(frame, at: port).outputs {
            switch output.destination {
            case .local(let port): found.append(host.fabric.path(port).description)
            case .remote(let far, let key):
                guard let other = hosts[host.fabric.name(far)] else { continue }
                for arrived in other.arrive(frame, key: key).outputs {
                    guard case .local(let port) = arrived.destination else { continue }
                    found.append(other.fabric.path(port).description)
                }
            }
        }
        return found.sorted()
    }

    @Test func `random machines join and leave: what is sent to a group reaches those who are in it, once each`() throws
    {
        let seed = SeededRandom.seed
        var random = SeededRandom(seed: seed)
        let topology = try draw(GroupModelTests.drawing)
        let state = TableState()
        let hosts = Dictionary(
            uniqueKeysWithValues: ["h1", "h2"].map { ($0, Host(topology: topology, state: state, host: $0)) })
        let ports = (1...5).map { "t/a/p\($0)" }
        func place(_ port: String) -> String { ["t/a/p4", "t/a/p5"].contains(port) ? "h2" : "h1" }
        func own(_ port: String, _ family: AddressFamily) -> IPAddress {
            address((family == .ipv4 ? "10.0.1." : "fd00:1::") + port.suffix(1))
        }
        var members: Set<Membership> = []
        var leaving: Set<Membership> = []
        var (heard, unheard) = (0, 0)
        for round in 0..<3000 {
            let port = try #require(ports.randomElement(using: &random))
            let host = try #require(hosts[place(port)])
            switch Int.random(in: 0...9, using: &random) {
            case 0, 1, 2:
                let isChosen = Bool.random(using: &random)
                let group = try #require((isChosen ? chosen : groups).randomElement(using: &random))
                let isJoin = Bool.random(using: &random)
                let source = isChosen ? ports.randomElement(using: &random).map { own($0, .ipv4) } : nil
                let one = Membership(port: port, group: group, source: source)
                let frame =
                    source.map { report(host, port, isJoin ? 5 : 6, group, $0) }
                    ?? Frame.groupReport(
                        from: host.mac(port), address(group.family == .ipv4 ? "10.0.1.9" : "fe80::9"), group: group,
                        isJoin: isJoin)
                for learned in host.send(frame, at: port).learned { state.learn(learned) }
                if isJoin {
                    members.insert(one)
                    leaving.remove(one)
                } else if members.contains(one) {
                    leaving.insert(one)
                }
            case 3:
                state.forgetLeft()
                members.subtract(leaving)
                leaving = []
            default:
                let group = try #require((groups + chosen).randomElement(using: &random))
                let source = own(port, group.family)
                let wanted = Set(
                    members.filter { $0.group == group && ($0.source ?? source) == source && $0.port != port }
                        .map(\.port)
                ).sorted()
                let frame = Frame.udp(
                    etherSource: host.mac(port), etherDestination: .multicast(for: group), source: source,
                    destination: group, sourcePort: 5000, destinationPort: 5000, data: [1, 2, 3])
                let found = delivered(frame, at: port, hosts, place(port))
                #expect(found == wanted, "seed \(seed) round \(round): \(source) to \(group)")
                if found != wanted { return }
                if wanted.isEmpty { unheard += 1 } else { heard += 1 }
            }
        }
        #expect(heard > 200 && unheard > 20, "seed \(seed): \(heard) heard, \(unheard) not")
    }
}
