// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux

/// A process that outlives this one, and sees to it then that daemons end: what becomes another user's is not killed by the kernel
/// when the thread that began it ends.
struct ProcessWatch {
    private let pid: Int32
    /// What it listens to: the kernel lets go of it when this process is gone.
    private let leash: Descriptor

    /// It is small and has nothing to do until then. What is to be done may fail, and who stops a whole group of processes does not
    /// mean this one.
    private static let script = """
        trap '' TERM HUP INT
        read -r _
        processes=$1
        shift
        "$@" $processes || kill -KILL $processes
        """

    /// Begins to watch.
    ///
    /// - Parameter farewell: what ends them in good order; `nil`: they are killed.
    init(_ processes: [Int32], farewell: Farewell?) throws {
        var ends: [Int32] = [-1, -1]
        try SystemError.check(cl_pipe(&ends), "make a pipe")
        let end = Descriptor(ends[0])
        leash = Descriptor(ends[1])
        let list = processes.map { "\($0)" }.joined(separator: " ")
        pid = try Spawn(
            program: "/bin/sh",
            arguments: ["sh", "-c", Self.script, "selvage-watch", list] + (farewell?.command ?? ["false"]),
            input: end.number, niceness: routingNiceness
        )
        .start()
    }

    /// Ends it, before the daemons do: numbers of processes that ended may be others' soon.
    func end() {
        Glibc.kill(pid, SIGKILL)
        var status: Int32 = 0
        _ = cl_wait(pid, 0, &status)
    }
}
