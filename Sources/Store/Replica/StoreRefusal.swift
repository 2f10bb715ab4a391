// SPDX-License-Identifier: Apache-2.0

/// Why the cluster did not do what was asked. Nothing was changed, unless it says so.
public enum StoreRefusal: Error, Sendable, Equatable, CustomStringConvertible {
    /// There is no leader: too few voters reach each other.
    case noQuorum(String)
    /// Too much is asked at once.
    case busy
    /// The answer did not come in time: whether it was done is not known.
    case unknownOutcome
    /// A node can't be reached.
    case unreachable(String, String)
    /// Another node refused.
    case remote(String, String)
    /// This node takes no part any more.
    case stopped(String)
    /// The change of members that runs has to end first.
    case changing
    /// Something else forbids it: what, and what to do.
    case refused(String, String)

    /// What happened, and beneath it what to do.
    public var description: String {
        switch self {
        case .noQuorum(let why):
            "no quorum: \(why)\n    nothing was changed; reads with --stale and forwarding go on"
        case .busy: "too much is asked at once\n    nothing was changed; try again"
        case .unknownOutcome:
            "the answer did not come in time\n    it may still be done: look before you try again"
        case .unreachable(let node, let why):
            "\(node) can't be reached: \(why)\n    see whether its node runs; selvage cluster list tells who is up"
        case .remote(let node, let why): "\(node): \(why)"
        case .stopped(let why): "this node takes no part in the cluster any more: \(why)"
        case .changing: "the members are changing already\n    nothing was changed; try again in a moment"
        case .refused(let why, let remedy): "refused: \(why)\n    \(remedy)"
        }
    }
}
