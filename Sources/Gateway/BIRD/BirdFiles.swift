// SPDX-License-Identifier: Apache-2.0
import Glibc
import Linux

/// The files of one BIRD.
struct BirdFiles {
    private let files: String

    /// - Parameter files: what their names begin with.
    init(_ files: String) { self.files = files }

    /// Where it is asked.
    var socket: String { files + ".ctl" }
    /// What it reads.
    var configuration: String { files + ".conf" }
    /// What it said when it was tried.
    var words: String { files + ".check" }

    /// Puts a configuration where it is read, if it is one.
    ///
    /// - Parameters:
    ///   - snippet: the operator's own part: without it all else goes on where it is none.
    ///   - text: the configuration, by the file of that part.
    /// - Returns: what is left out; `nil`: nothing.
    func write(_ snippet: String?, _ text: (String?) -> String) throws -> String? {
        let candidate = files + ".new"
        let file = snippet.map { _ in files + ".snippet" }
        if let snippet, let file { try writeFile(snippet, to: file) }
        var trouble: String?
        try writeFile(text(file), to: candidate)
        if let reason = BirdProcess.check(candidate, output: words) {
            let words = reason.replacing(files + ".snippet", with: "snippet").replacing(
                candidate, with: "configuration")
            guard file != nil else { throw GatewayError("the daemon can't be configured: \(words)") }
            trouble = "the snippet is left out: \(words)"
            try writeFile(text(nil), to: candidate)
            if BirdProcess.check(candidate, output: self.words) != nil {
                throw GatewayError("the daemon can't be configured: \(words)")
            }
        }
        guard rename(candidate, configuration) == 0 else { throw SystemError(errno, "write \(configuration)") }
        return trouble
    }

    /// Takes them away.
    func remove() { for file in [".conf", ".new", ".snippet", ".ctl", ".check"] { unlink(files + file) } }
}
