// SPDX-License-Identifier: Apache-2.0
import NIOCore

/// Bounds of the store; what each turns away is counted.
public enum StoreLimits {
    /// Bytes of one command.
    public static let commandBytes = 4 << 20
    /// Bytes of one frame between nodes, once they know each other.
    static let frameBytes = 16 << 20
    /// Bytes of the first frame of a connection.
    static let helloBytes = 4096
    /// Connections from other nodes.
    static let inboundConnections = 1024
    /// Connections that have not said yet who they are.
    static let strangers = 64
    /// ... from one address.
    static let strangersOfOneAddress = 16
    /// Bytes that wait for one node in one lane; what comes then is dropped, and agreement makes up for it.
    static let queuedBytes = 32 << 20
    /// Questions to other nodes that wait for answers.
    static let requests = 4096
    /// Changes that wait to be agreed on.
    public static let submissions = 8192
    /// Time for the handshake and the first frame.
    static let helloTimeout = TimeAmount.seconds(5)
    /// Changes that watchers can still be told of.
    public static let history = 10_000
    /// Entries between two checkpoints of the state.
    static let checkpointEntries: UInt64 = 2000
    /// ... or so many bytes of them.
    static let checkpointBytes = 64 << 20
    /// Bytes of an answer to another node.
    static let responseBytes = 8 << 20
    /// Objects in the changes that watchers can still be told of.
    static let historyObjects = 200_000
}
