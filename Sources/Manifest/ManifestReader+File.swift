// SPDX-License-Identifier: Apache-2.0
import Foundation
import Topology

// Apart from the rest because Foundation has a Port and a Host of its own.
extension ManifestReader {
    /// Reads a file.
    public static func read(path: String) throws(ManifestError) -> Manifest {
        try read(try text(of: path), file: path)
    }

    /// Reads a file that says how a host is reached.
    public static func readUnderlay(path: String) throws(ManifestError) -> UnderlayPlan {
        try readUnderlay(try text(of: path), file: path)
    }

    private static func text(of path: String) throws(ManifestError) -> String {
        func unreadable(_ reason: String, _ remedy: String) -> ManifestError {
            ManifestError(file: path, items: [.init(line: 0, column: 0, object: "", reason: reason, remedy: remedy)])
        }
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw unreadable("the file cannot be read", "check that it exists and that you may read it")
        }
        defer { try? handle.close() }
        // One byte past the bound tells a file that is too long; what it holds further on does not matter.
        let data: Data
        do {
            // At the end of the file there is no data rather than empty data.
            data = try handle.read(upToCount: ManifestLimits.bytes + 1) ?? Data()
        } catch {
            throw unreadable("the file cannot be read", "name a file, not a directory")
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw unreadable("the file is not text", "write the manifest as UTF-8")
        }
        return text
    }
}
