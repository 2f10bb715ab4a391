// SPDX-License-Identifier: Apache-2.0
import Linux

/// Keeps what comes in by an interface from the host's own network stack, by a chain of nftables at the interface's
/// ingress that drops all. Packet sockets stand before it and see everything (linux/netfilter/nf_tables.h).
public struct IngressGuard {
    private static let batchBegin: UInt16 = 0x10
    private static let batchEnd: UInt16 = 0x11
    private static let subsystem: UInt16 = 10
    private static let newTable = subsystem << 8
    private static let newChain = subsystem << 8 | 3
    private static let getChain = subsystem << 8 | 4
    private static let deleteChain = subsystem << 8 | 5
    /// NFPROTO_NETDEV.
    private static let family: UInt8 = 5
    private static let table = "selvage"
    private static let create: UInt16 = 0x400

    private let socket: NetlinkSocket

    /// Opens nftables' door in this thread's network namespace; throws where the kernel has none.
    public init() throws {
        socket = try NetlinkSocket(protocol: 12)  // NETLINK_NETFILTER
    }

    /// Closes an interface to the host's stack. An interface that is closed already stays so.
    ///
    /// A chain goes with its interface: one that is there guards it. To make it again would take a grace period of RCU, which
    /// a node that starts again would wait for as often as it has ports.
    public func close(_ interface: String) throws {
        if isClosed(interface) { return }
        var table = message(IngressGuard.newTable, flags: IngressGuard.create)
        table.attribute(1, IngressGuard.table)
        var chain = message(IngressGuard.newChain, flags: IngressGuard.create)
        chain.attribute(1, IngressGuard.table)
        chain.attribute(3, interface)
        chain.nest(4) { hook in
            hook.attribute(1, UInt32(0))  // ingress
            hook.attribute(2, UInt32(0))  // priority
            hook.attribute(3, interface)
        }
        chain.attribute(5, UInt32(0))  // policy: drop
        chain.attribute(7, "filter")
        try send([table, chain], "keep \(interface) from this host's own network stack")
    }

    private func isClosed(_ interface: String) -> Bool {
        var chain = message(IngressGuard.getChain)
        chain.attribute(1, IngressGuard.table)
        chain.attribute(3, interface)
        return (try? socket.request(&chain, "look for the chain of \(interface)")) != nil
    }

    /// Opens it again.
    public func open(_ interface: String) throws {
        var chain = message(IngressGuard.deleteChain)
        chain.attribute(1, IngressGuard.table)
        chain.attribute(3, interface)
        try send([chain], "give \(interface) back to this host's own network stack")
    }

    private func message(_ type: UInt16, flags: UInt16 = 0, family: UInt8 = family, resource: UInt16 = 0)
        -> NetlinkMessage
    {
        var message = NetlinkMessage(type: type, flags: flags)
        message.append((family, UInt8(0), resource.bigEndian))
        return message
    }

    /// Sends messages that take effect together or not at all. The last one is acknowledged.
    private func send(_ messages: [NetlinkMessage], _ action: String) throws {
        let begin = message(IngressGuard.batchBegin, family: 0, resource: IngressGuard.subsystem)
        let end = message(IngressGuard.batchEnd, family: 0, resource: IngressGuard.subsystem)
        try socket.requestBatch([begin] + messages + [end], acknowledged: messages.count, action)
    }
}
