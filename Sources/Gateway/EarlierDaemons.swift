// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux

/// Daemons that an earlier run of a node left: their last words are being carried, by an interface of the name that the next one's has.
enum EarlierDaemons {
    /// How long they may take, and then have until they are gone, hundredths of a second.
    private static let (patience, grace) = (300, 50)

    /// Waits until they ended; kills them when that takes too long.
    ///
    /// - Parameter files: what the names of their files begin with, from the root.
    static func awaitEnd(_ files: [String]) {
        let left = RunningProcess.all.filter { isOne($0, files) }
        for turn in 0..<patience + grace {
            let there = left.filter { isOne($0, files) }
            if there.isEmpty { return }
            if turn == patience { for process in there { kill(process.pid, SIGKILL) } }
            usleep(10_000)
        }
    }

    private static func isOne(_ process: RunningProcess, _ files: [String]) -> Bool {
        guard let name = process.name, name == "bird" || FRRPlace.program(name) != nil else { return false }
        // Another node's files may have the same names elsewhere, as in a container.
        return process.command.contains { word in files.contains { word.hasPrefix($0) } } && process.shares("mnt")
    }
}
