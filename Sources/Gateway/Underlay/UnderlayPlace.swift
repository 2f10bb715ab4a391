// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Netlink
import Topology
import Wire

/// What is on a host of its routing daemon: files, a process that is nobody's child, addresses.
struct UnderlayPlace: Sendable {
    /// What the names of its files begin with.
    let files: String

    var bird: BirdFiles { BirdFiles(files) }
    var control: BirdControl { BirdControl(path: bird.socket) }
    private var numberFile: String { files + ".pid" }
    private var addressFile: String { files + ".addresses" }

    /// - Parameter directory: made where it is not there.
    init(_ directory: String) throws {
        if mkdir(directory, 0o700) < 0, errno != EEXIST { throw SystemError(errno, "make \(directory)") }
        // The daemon leaves the directory that it is started in.
        files = try realPath(directory) + "/bird"
    }

    // MARK: - The process

    /// The daemon's process id, if it runs. A number may have become another one's.
    private var pid: Int32? {
        guard let text = shortText(of: numberFile), let pid = Int32(text), pid > 0, isOurs(RunningProcess(pid)) else {
            return nil
        }
        return pid
    }

    private func isOurs(_ process: RunningProcess) -> Bool {
        process.name == "bird" && Self.isDaemon(process.command) && process.command.contains(bird.configuration)
    }

    /// Whether a command is one of a daemon, and not of one that only looks whether a configuration is one.
    private static func isDaemon(_ command: [String]) -> Bool {
        !command.contains("-p") && !command.contains("--version") && !command.contains("--help")
    }

    /// Whether it runs.
    var runs: Bool { pid != nil }

    /// What can be read when it ended; `nil`: it does not run, or that can't be had.
    var process: Descriptor? {
        guard let pid, case let number = cl_process(pid), number >= 0 else { return nil }
        return Descriptor(number)
    }

    /// How long a host that has a lot to do may take to start it, hundredths of a second.
    private static let patience = 500

    /// Starts it; it goes its own way.
    ///
    /// - Parameter isRecovering: whether the kernel may have routes of an earlier one.
    func start(isRecovering: Bool) throws {
        guard let program = BirdProcess.program else { throw GatewayError(BirdProcess.missing) }
        let birds = Self.birds
        // Its number may be lost, and it is not.
        if let ours = birds.first(where: isOurs) { return try writeFile("\(ours.pid)", to: numberFile) }
        if let other = birds.first {
            throw GatewayError(
                "another BIRD runs on this host, process \(other.pid), and each would take the other's routes away: "
                    + "end it, as with systemctl disable --now bird")
        }
        for file in [bird.socket, numberFile] { unlink(file) }
        let (status, words) = try ShortProgram.run(
            program,
            ["bird", "-c", bird.configuration, "-s", bird.socket, "-P", numberFile] + (isRecovering ? ["-R"] : []),
            output: bird.words, niceness: routingNiceness)
        if status != 0 { throw GatewayError("the host's routing daemon does not start: \(words)") }
        // It says who it is when who started it has ended already.
        for _ in 0..<Self.patience {
            if runs, access(bird.socket, F_OK) == 0 { return }
            usleep(10_000)
        }
        throw GatewayError("the host's routing daemon ends at once: its words are in \(files).log")
    }

    /// All of its kind in this network namespace.
    private static var birds: [RunningProcess] {
        RunningProcess.all.filter { $0.name == "bird" && isDaemon($0.command) && $0.shares("net") }
    }

    /// Ends it, with all that it told the kernel.
    func end() {
        // One that ended by itself left its routes: it takes them away when it begins and was not told to keep them.
        if !runs, access(bird.configuration, F_OK) == 0 { try? start(isRecovering: false) }
        if let pid {
            if let text = shortText(of: bird.configuration, atMost: 1 << 24) {
                try? writeFile(text.replacing("persist yes;", with: "persist no;"), to: bird.configuration)
                _ = try? control.configure()
            }
            kill(pid, SIGTERM)
            for turn in 0..<300 where runs {
                if turn == 200 { kill(pid, SIGKILL) }
                usleep(10_000)
            }
        }
        try? removeAddresses(except: [])
        bird.remove()
        for file in [".pid", ".log", ".log.old", ".addresses"] { unlink(files + file) }
        rmdir(String(files.dropLast("/bird".count)))
    }

    // MARK: - Addresses

    /// By which cards peers are reached: those that have addresses in their networks.
    ///
    /// - Parameter known: how they were: one that is right still stays, whatever else a card has.
    static func cards(
        _ peers: [BGPPeer], known: [IPAddress: BirdPeers.Place]
    ) throws -> [IPAddress: BirdPeers.Place] {
        let addresses = try RouteNetlink().addresses()
        var found: [IPAddress: BirdPeers.Place] = [:]
        for peer in peers {
            let near = addresses.filter { $0.network.contains(peer.address) && $0.own != peer.address }
            func rank(_ address: RouteNetlink.Address) -> (Int, Int, Int) {
                let isKnown = known[peer.address] == BirdPeers.Place(address: address.own, interface: address.link)
                return (isKnown ? 0 : 1, address.isSteady ? 0 : 1, -address.network.length)
            }
            let best = near.min { rank($0) == rank($1) ? $0.own < $1.own : rank($0) < rank($1) }
            guard let best else { continue }
            found[peer.address] = BirdPeers.Place(address: best.own, interface: best.link)
        }
        return found
    }

    private var given: Set<IPAddress> {
        Set(
            (shortText(of: addressFile, atMost: 1 << 16) ?? "").split(separator: " ").compactMap {
                IPAddress(String($0))
            })
    }

    private func note(_ addresses: Set<IPAddress>) throws {
        try writeFile(addresses.sorted().map(\.description).joined(separator: " "), to: addressFile)
    }

    /// Gives the host its addresses. One that the host has had is the operator's, and stays when the daemon goes.
    func addAddresses(_ wanted: [IPAddress]) throws {
        let route = try RouteNetlink()
        try route.setUp("lo")
        let there = Set(try route.addresses().map(\.own))
        let ours = given
        try note(ours.union(wanted.filter { !there.contains($0) }))
        for address in wanted where !there.contains(address) {
            if address.family == .ipv6, !kernelHasIPv6 { continue }
            try route.addAddress(InterfaceAddress(address, length: address.family.width), to: "lo")
        }
    }

    /// Takes those away that the host was given, and does not need any more.
    func removeAddresses(except wanted: [IPAddress]) throws {
        let route = try RouteNetlink()
        for address in given.subtracting(wanted) {
            try? route.removeAddress(InterfaceAddress(address, length: address.family.width), from: "lo")
        }
        try note(given.intersection(wanted))
    }
}
