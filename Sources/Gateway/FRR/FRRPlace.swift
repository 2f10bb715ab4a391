// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux
import Topology
import Wire

/// Where FRRouting's daemons of one uplink have their files, and as whom they run. They run as a user of their own, who has to reach
/// them; as root only where root is in the group of their terminals, which is so in a lab.
struct FRRPlace: Sendable {
    /// The directory.
    let directory: String
    /// What each daemon is told.
    private let identity: [String]
    private let owner: (user: uid_t, group: gid_t)?

    private static let programs = "/usr/lib/frr"
    static let missing = "FRRouting is not installed: install Debian's package frr"

    /// - Parameter files: what the names of the uplink's files begin with.
    init(files: String) {
        if Self.entry("/etc/group", "frrvty")?.last?.split(separator: ",").contains("root") == true {
            directory = files + ".frr"
            identity = ["-u", "root", "-g", "root"]
            owner = nil
        } else {
            let name = files.split(separator: "/").last.map(String.init) ?? files
            directory = "/run/selvage-frr/\(name)-\(String(stableHash(files), radix: 36))"
            identity = []
            let user = Self.entry("/etc/passwd", "frr").flatMap { $0.count > 3 ? (uid_t($0[2]), gid_t($0[3])) : nil }
            if case (let user?, let group?)? = user { owner = (user, group) } else { owner = nil }
        }
    }

    /// Fields of a line of a table of users or groups.
    private static func entry(_ file: String, _ name: String) -> [String]? {
        let number = open(file, O_RDONLY | O_CLOEXEC)
        if number < 0 { return nil }
        let descriptor = Descriptor(number)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while case let count = read(descriptor.number, &buffer, buffer.count), count > 0 { bytes += buffer[..<count] }
        let line = bytes.split(separator: 10).map { String(decoding: $0, as: UTF8.self) }
            .first { $0.hasPrefix("\(name):") }
        return line?.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }

    /// Makes it, with nothing in it.
    func make() throws {
        remove()
        if owner != nil { mkdir("/run/selvage-frr", 0o755) }
        if mkdir(directory, 0o700) < 0, errno != EEXIST { throw SystemError(errno, "make \(directory)") }
        if let owner, chown(directory, owner.user, owner.group) < 0 {
            throw SystemError(errno, "give \(directory) to user frr")
        }
    }

    /// Takes it away.
    func remove() { Self.removeDirectory(directory) }

    /// Takes a directory of files away.
    static func removeDirectory(_ directory: String) {
        guard let list = opendir(directory) else { return }
        while let entry = readdir(list) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { unlink("\(directory)/\(name)") }
        }
        closedir(list)
        rmdir(directory)
    }

    /// The program of a daemon; `nil` where it is not installed.
    static func program(_ name: String) -> String? {
        let path = "\(programs)/\(name)"
        return access(path, X_OK) == 0 ? path : nil
    }

    /// The program that speaks to all of them; `nil` where it is not installed.
    static var shell: String? { ["/usr/bin/vtysh", "/usr/local/bin/vtysh"].first { access($0, X_OK) == 0 } }

    /// What a daemon is started with.
    func arguments(_ name: String) -> [String] {
        var list =
            [
                name, "-f", "/dev/null", "-i", "\(directory)/\(name).pid", "-z", routes, "--vty_socket", directory,
                "-P", "0",
                "--log", "stdout", "--log-level", "warnings",
            ] + identity
        // What it told the kernel stays when it ends; what its successor does not tell again goes after a while.
        if name == "zebra" { list += ["-r", "-K", "10", "-s", "33554432"] }
        if name == "bfdd" { list += ["--bfdctl", "\(directory)/bfdd.sock"] }
        return list
    }

    /// The socket by which daemons tell routes to the one that tells the kernel.
    var routes: String { "\(directory)/zserv.api" }
    /// The socket by which a daemon is spoken to.
    func terminal(_ name: String) -> String { "\(directory)/\(name).vty" }
}
