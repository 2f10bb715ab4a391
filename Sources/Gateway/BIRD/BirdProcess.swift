// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// The daemon's program: where it is, whether a configuration is one, and the running one.
struct BirdProcess {
    /// Its process id.
    let pid: Int32
    private let watch: ProcessWatch

    /// Where programs of administrators are.
    private static let places = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin"]

    /// The program; `nil` where it is not installed.
    static var program: String? {
        places.map { "\($0)/bird" }.first { access($0, X_OK) == 0 }
    }

    /// Why a configuration is none; `nil` when it is one. In the daemon's words, with the file and the line.
    ///
    /// - Parameter output: a file for its words.
    static func check(_ file: String, output: String) -> String? {
        guard let program else { return missing }
        do {
            let (status, words) = try ShortProgram.run(program, ["bird", "-p", "-c", file], output: output)
            if status == 0 { return nil }
            return words.split(separator: "\n").first.map(String.init)
                ?? "the daemon refuses it, and does not say why"
        } catch { return "\(error)" }
    }

    static let missing = "bird is not installed: install Debian's package bird2"

    /// Starts it in a namespace.
    ///
    /// - Parameters:
    ///   - isRecovering: whether it takes over what one before it left in the kernel.
    ///   - log: takes its words.
    ///   - farewell: how it ends when this process is gone; `nil`: at once.
    static func start(
        _ configuration: String, socket: String, in namespace: NetworkNamespace, isRecovering: Bool, log: Int32,
        farewell: Farewell?
    ) throws -> BirdProcess {
        guard let program else { throw GatewayError(missing) }
        unlink(socket)
        let pid = try Spawn(
            program: program,
            arguments: ["bird", "-f", "-c", configuration, "-s", socket] + (isRecovering ? ["-R"] : []),
            namespaces: [namespace.descriptor.number], output: log, error: log,
            diesWithParent: farewell == nil, niceness: routingNiceness
        )
        .start()
        do { return BirdProcess(pid: pid, watch: try ProcessWatch([pid], farewell: farewell)) } catch {
            kill(pid)
            throw error
        }
    }

    /// Looks whether it ended by itself; how, once.
    func end() -> Int32? {
        var status: Int32 = 0
        if cl_wait(pid, 1, &status) == 0 { return nil }
        watch.end()
        return status
    }

    /// Ends it, in good order if that does not take long.
    func stop() {
        watch.end()
        Glibc.kill(pid, SIGTERM)
        var status: Int32 = 0
        for _ in 0..<100 {
            if cl_wait(pid, 1, &status) != 0 { return }
            usleep(10_000)
        }
        Self.kill(pid)
    }

    private static func kill(_ pid: Int32) {
        Glibc.kill(pid, SIGKILL)
        var status: Int32 = 0
        _ = cl_wait(pid, 0, &status)
    }
}
