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

    /// The daemon's process id, if one runs.
    private var pid: Int32? {
        guard let text = Self.text(of: numberFile), let pid = Int32(text), pid > 0,
            let name = Self.text(of: "/proc/\(pid)/comm"), name == "bird"
        else { return nil }
        return pid
    }

    /// Whether it runs.
    var runs: Bool { pid != nil }

    /// What can be read when it ended; `nil`: it does not run.
    var process: Descriptor? {
        guard let pid, case let number = cl_process(pid), number >= 0 else { return nil }
        return Descriptor(number)
    }

    /// Starts it; it goes its own way.
    func start(isRecovering: Bool) throws {
        guard let program = BirdProcess.program else { throw GatewayError(BirdProcess.missing) }
        let wasThere = access(numberFile, F_OK) == 0
        for file in [bird.socket, numberFile] { unlink(file) }
        let (status, words) = try ShortProgram.run(
            program,
            ["bird", "-c", bird.configuration, "-s", bird.socket, "-P", numberFile]
                + (isRecovering || wasThere ? ["-R"] : []), output: bird.words)
        if status != 0 { throw GatewayError("the host's routing daemon does not start: \(words)") }
        // It says who it is when who started it has ended already.
        for _ in 0..<500 {
            if runs, access(bird.socket, F_OK) == 0 { return }
            usleep(2000)
        }
        throw GatewayError("the host's routing daemon ends at once: its words are in \(files).log")
    }

    /// Ends it, with all that it told the kernel.
    func end() {
        if let pid {
            if let text = Self.text(of: bird.configuration, atMost: 1 << 20) {
                try? writeFile(text.replacing("persist yes;", with: "persist no;"), to: bird.configuration)
                _ = try? control.configure()
            }
            kill(pid, SIGTERM)
            for _ in 0..<200 where runs { usleep(10_000) }
            if runs { kill(pid, SIGKILL) }
        }
        try? setAddresses([])
        bird.remove()
        for file in [".pid", ".log", ".log.old", ".addresses"] { unlink(files + file) }
        rmdir(String(files.dropLast("/bird".count)))
    }

    // MARK: - Addresses

    /// The host's address in the network of a peer next to it; `nil`: it has none now.
    static func own(_ peer: BGPPeer) -> IPAddress? {
        peer.isFar ? nil : (try? RouteNetlink())?.source(toward: peer.address)
    }

    /// Gives the host its addresses, and takes away those that it was given before.
    func setAddresses(_ wanted: [IPAddress]) throws {
        let route = try RouteNetlink()
        let given = (Self.text(of: addressFile) ?? "").split(separator: " ").compactMap { IPAddress(String($0)) }
        for address in given where !wanted.contains(address) {
            try? route.removeAddress(InterfaceAddress(address, length: address.family.width), from: "lo")
        }
        // One that the host has had is the operator's, and stays when the daemon goes.
        var ours = given.filter { wanted.contains($0) }
        try route.setUp("lo")
        for address in wanted {
            do {
                try route.addAddress(InterfaceAddress(address, length: address.family.width), to: "lo")
                ours.append(address)
            } catch let error as SystemError where error.code == EEXIST {}
        }
        try writeFile(ours.map(\.description).joined(separator: " "), to: addressFile)
    }

    /// A short text; `nil` where there is none.
    private static func text(of file: String, atMost most: Int = 4096) -> String? {
        let number = open(file, O_RDONLY | O_CLOEXEC)
        if number < 0 { return nil }
        let descriptor = Descriptor(number)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while bytes.count < most, case let count = read(descriptor.number, &buffer, buffer.count), count > 0 {
            bytes += buffer[..<count]
        }
        var text = String(decoding: bytes, as: UTF8.self)
        while text.last?.isNewline == true { text.removeLast() }
        return text
    }
}
