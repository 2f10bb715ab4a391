// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc

/// SIGTERM, SIGINT, SIGHUP and SIGCHLD of this process, whichever of its threads they reach.
public enum Signals {
    /// Catches them from now on, and ignores SIGPIPE. Once in a process.
    public static func startCatching() throws(SystemError) {
        try SystemError.check(cl_catch_signals(), "catch signals")
    }

    /// Waits for the next; returns its number. Several that come together may be one.
    public static func next() -> Int32 { cl_wait_signal() }
}
