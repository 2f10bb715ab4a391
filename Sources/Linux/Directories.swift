// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Whether a path is a directory of this user that nobody else may write to; `nil` when there is nothing.
public func isPrivateDirectory(_ path: String) -> Bool? {
    var status = stat()
    if lstat(path, &status) < 0, errno == ENOENT { return nil }
    return status.st_mode & S_IFMT == S_IFDIR && status.st_uid == getuid() && status.st_mode & 0o022 == 0
}
