// SPDX-License-Identifier: Apache-2.0
import Foundation
import Store

func copyFiles(_ from: String, _ to: String) throws { try FileManager.default.copyItem(atPath: from, toPath: to) }

func removeLog(_ directory: String) throws {
    for name in ["log.db", "log.db-wal"] { try? FileManager.default.removeItem(atPath: directory + "/" + name) }
}

/// As if the copy had started once more than the original.
func bumpEpoch(_ directory: String, _ owner: PeerIdentity) throws {
    let log = try LogStore(path: directory + "/log.db", owner: owner)
    _ = try log.beginEpoch()
    _ = try log.beginEpoch()
}

/// A directory that goes with whoever holds it.
final class Scratch: Sendable {
    let path = NSTemporaryDirectory() + "selvage-test-\(UUID().uuidString)"

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}
