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
        guard let real = realpath(directory, nil) else { throw SystemError(errno, "find \(directory)") }
        defer { free(real) }
        files = String(cString: real) + "/bird"
    }

    // MARK: - The process

    /// The daemon's process id, if it runs. A number may have become another one's.
    private var pid: Int32? {
        guard let text = shortText(of: numberFile), let pid = Int32(text), pid > 0, nameOfProcess(pid) == "bird",
            commandOfProcess(pid).contains(bird.configuration)
        else { return nil }
        return pid
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
        if let other = Self.others(than: bird.configuration).first {
            throw GatewayError(
                "another BIRD runs on this host, process \(other), and each would take the other's routes away: "
                    + "end it, as with systemctl disable --now bird")
        }
        for file in [bird.socket, numberFile] { unlink(file) }
        let (status, words) = try ShortProgram.run(
            program,
            ["bird", "-c", bird.configuration, "-s", bird.socket, "-P", numberFile] + (isRecovering ? ["-R"] : []),
            output: bird.words)
        if status != 0 { throw GatewayError("the host's routing daemon does not start: \(words)") }
        // It says who it is when who started it has ended already.
        for _ in 0..<Self.patience {
            if runs, access(bird.socket, F_OK) == 0 { return }
            usleep(10_000)
        }
        throw GatewayError("the host's routing daemon ends at once: its words are in \(files).log")
    }

    /// Others of its kind in this network namespace.
    private static func others(than configuration: String) -> [Int32] {
        let here = targetOfLink("/proc/thread-self/ns/net")
        return processes.filter {
            nameOfProcess($0) == "bird" && targetOfLink("/proc/\($0)/ns/net") == here
                && !commandOfProcess($0).contains(configuration)
        }
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
    static func cards(_ peers: [BGPPeer]) -> [IPAddress: BirdPeers.Place] {
        guard let addresses = try? RouteNetlink().addresses() else { return [:] }
        var found: [IPAddress: BirdPeers.Place] = [:]
        for peer in peers {
            guard let (own, interface) = addresses.first(where: { $0.address.network.contains(peer.address) }) else {
                continue
            }
            found[peer.address] = BirdPeers.Place(address: own.address, interface: interface)
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
        let there = Set(try route.addresses().map(\.address.address))
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
