// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Consensus
import Glibc
import Linux
import NIOCore
import Store
import Synchronization
import TLS
import Topology
import Wire

/// What three members agree on in a second. Run without `--member` it starts two more processes of itself; clients are tasks
/// beside the leader that each wait for the answer to one change before they ask for the next.
struct StoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store", abstract: "Acknowledged writes of a replicated store of three processes.")

    @Option(help: "A directory on the disk.") var directory: String
    @Option(help: "Seconds for each figure.") var seconds = 3.0
    @Option(help: "Runs of each figure; medians count.") var runs = 3
    @Option(help: "How many clients, at a time (1, 16, 64).") var clients: [Int] = []
    @Option(help: .hidden) var member: UInt64?

    private static let cluster = String(repeating: "b", count: 32)
    private static func port(_ member: UInt64) -> Int { 17_450 + Int(member) }
    private static func identity(_ member: UInt64) -> PeerIdentity { .init(cluster: cluster, node: NodeID(member)) }

    func run() async throws {
        if let member { return try await runMember(member) }
        let members = try (UInt64(2)...3).map { try start($0) }
        defer { for pid in members { stop(pid) } }
        let replica = try await open(1)
        try await wait("a leader") { replica.state.cluster != nil }
        for member in UInt64(2)...3 { _ = try await replica.submit([.putNode(record(member))]) }
        try await wait("three voters") { replica.state.members.voters.count == 3 && !replica.state.members.isJoint }
        _ = try await replica.submit([.put(.bridge(Bridge(path: StoreCommand.device)))])
        for clients in clients.isEmpty ? [1, 16, 64] : clients {
            var rates: [Double] = []
            var p50s: [Double] = []
            var p99s: [Double] = []
            for _ in 0..<runs {
                let figures = await load(replica, clients)
                rates.append(figures.rate)
                p50s.append(figures.p50)
                p99s.append(figures.p99)
            }
            print(
                "{\"clients\": \(clients), \"writes_per_s\": \(Int(median(rates))), \"p50_ms\": \(median(p50s)), \"p99_ms\": \(median(p99s))}"
            )
        }
        await replica.stop()
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    private func record(_ member: UInt64) -> NodeRecord {
        NodeRecord(
            id: NodeID(member), name: "n\(member)", role: .voter, peerAddress: "127.0.0.1:\(StoreCommand.port(member))",
            apiAddress: "127.0.0.1:\(member)", version: "bench")
    }

    // MARK: - Members

    private func start(_ member: UInt64) throws -> pid_t {
        var pid = pid_t()
        let arguments = ["selvage-bench", "store", "--directory", directory, "--member", "\(member)"]
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        let result = posix_spawn(&pid, "/proc/self/exe", nil, nil, &pointers, environ)
        if result != 0 { throw SystemError(result, "start a member") }
        return pid
    }

    private func stop(_ pid: pid_t) {
        kill(pid, SIGKILL)
        var status: Int32 = 0
        waitpid(pid, &status, 0)
    }

    private func runMember(_ member: UInt64) async throws {
        // The first makes the authority; until then there is nothing to begin with.
        while try Files.read("\(directory)/authority.pem") == nil { try await Task.sleep(for: .milliseconds(20)) }
        let replica = try await open(member)
        _ = replica
        while true { try await Task.sleep(for: .seconds(3600)) }
    }

    private func authority(_ member: UInt64) throws -> Authority {
        let file = "\(directory)/authority.pem"
        if member == 1 {
            let authority = try Authority(commonName: "bench", from: wallSeconds() - 60, until: wallSeconds() + 86_400)
            try Files.replace(file, Array((try authority.keyPEM() + authority.certificate.pem()).utf8))
            return authority
        }
        let text = String(decoding: try Files.read(file) ?? [], as: UTF8.self)
        return Authority(certificate: try Certificate(pem: text), key: try PrivateKey(pem: text))
    }

    private func open(_ member: UInt64) async throws -> Replica {
        let authority = try authority(member)
        let key = try PrivateKey()
        var names = CertificateNames(commonName: "n\(member)")
        let identity = StoreCommand.identity(member)
        names.uris = [identity.uri]
        let certificate = try authority.sign(
            CertificateRequest(key: key, commonName: "n"), names: names, from: wallSeconds() - 60,
            until: wallSeconds() + 3600)
        let path = "\(directory)/n\(member)"
        try Files.makeDirectory(path)
        try LogStore.create(
            path: path + "/log.db", owner: identity, members: member == 1 ? Members(voters: [NodeID(1)]) : Members())
        let port = StoreCommand.port(member)
        var configuration = Replica.Configuration(
            directory: path, identity: identity, listen: ("127.0.0.1", port), address: "127.0.0.1:\(port)",
            program: "bench",
            credentials: try PeerCredentials(
                certificate: certificate, key: key, authorities: [authority.certificate]))
        configuration.bootstrap = [
            .setCluster(ClusterRecord(id: StoreCommand.cluster, name: "bench")), .putNode(record(1)),
        ]
        let replica = try Replica(configuration) { _ in }
        try await replica.start()
        return replica
    }

    private func wait(_ what: String, _ condition: () -> Bool) async throws {
        for _ in 0..<2000 {
            if condition() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw SystemError(110, "wait for \(what)")
    }

    // MARK: - Load

    static let device = DevicePath(tenant: "acme-production", name: "web-frontend")

    /// A port, as large as they are: its MAC and addresses change each time.
    static func change(_ number: Int) -> Transaction.Operation {
        let index = UInt64(number % 512)
        let turn = UInt64(number / 512 % 250 + 1)
        let name = "vm-\(index)"
        var port = Port(path: PortPath(device: device, name: name), kind: .bridge)
        port.mac = MACAddress(bits: 0x0e00_0000_0000 | index << 8 | turn)
        port.addresses = [
            InterfaceAddress(IPAddress(IPv4Address(bits: UInt32(0x0a00_0000 | index << 8 | turn))), length: 16),
            InterfaceAddress(IPAddress(high: 0xfd00 << 48, low: index << 32 | turn, family: .ipv6), length: 64),
        ]
        return .put(.port(port))
    }

    private func load(_ replica: Replica, _ clients: Int) async -> (rate: Double, p50: Double, p99: Double) {
        let next = Counter()
        let began = monotonicNanoseconds()
        let end = began + UInt64(seconds * 1e9)
        let all = await withTaskGroup(of: [UInt64].self) { group in
            for _ in 0..<clients {
                group.addTask {
                    var times: [UInt64] = []
                    while true {
                        let start = monotonicNanoseconds()
                        if start >= end { break }
                        let number = next.value.add(1, ordering: .relaxed).newValue
                        guard case .done? = try? await replica.submit([StoreCommand.change(number)]) else { continue }
                        times.append(monotonicNanoseconds() - start)
                    }
                    return times
                }
            }
            return await group.reduce(into: [UInt64]()) { $0 += $1 }
        }
        let took = Double(monotonicNanoseconds() - began) / 1e9
        let sorted = all.sorted()
        func at(_ share: Int) -> Double {
            sorted.isEmpty ? 0 : (Double(sorted[(sorted.count - 1) * share / 100]) / 1e4).rounded() / 100
        }
        return (Double(sorted.count) / took, at(50), at(99))
    }
}

private final class Counter: Sendable { let value = Atomic<Int>(0) }
