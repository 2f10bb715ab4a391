// SPDX-License-Identifier: Apache-2.0
import CNetlink
import Glibc
import Linux

/// A netlink socket, made and owned by libnl; messages are encoded and decoded in place on its descriptor.
///
/// Belongs to one thread at a time.
public final class NetlinkSocket: @unchecked Sendable {  // one thread at a time; nothing is shared
    private let handle: OpaquePointer
    /// The descriptor, to wait on.
    public let descriptor: Int32
    /// The port id that the kernel knows the socket by.
    public let portID: UInt32
    private var sequence: UInt32 = 1
    /// Whether what the last request listed changed meanwhile: something may be missing.
    private(set) var wasInterrupted = false
    private var buffer: UnsafeMutableRawBufferPointer

    /// Largest answer that is read at once, bytes; dumps come in pieces of at most 32 KiB.
    private static let bufferSize = 128 << 10

    /// Opens a socket of a netlink protocol, `NETLINK_ROUTE` or `NETLINK_GENERIC`, in this thread's network namespace.
    public init(protocol number: Int32) throws {
        guard let handle = nl_socket_alloc() else { throw SystemError(ENOMEM, "open a netlink socket") }
        let result = nl_connect(handle, number)
        if result < 0 {
            nl_socket_free(handle)
            throw NetlinkSocket.error(result, "open a netlink socket")
        }
        self.handle = handle
        descriptor = nl_socket_get_fd(handle)
        portID = nl_socket_get_local_port(handle)
        buffer = .allocate(byteCount: NetlinkSocket.bufferSize, alignment: 16)
        // The reason of a refusal in words (NETLINK_EXT_ACK) and the request left out of it (NETLINK_CAP_ACK).
        var one: Int32 = 1
        setsockopt(descriptor, LinuxConstant.netlinkLevel, LinuxConstant.netlinkExtAck, &one, 4)
        setsockopt(descriptor, LinuxConstant.netlinkLevel, LinuxConstant.netlinkCapAck, &one, 4)
    }

    deinit {
        nl_socket_free(handle)
        buffer.deallocate()
    }

    /// libnl's error numbers in terms of errno.
    static func error(_ code: Int32, _ action: String) -> SystemError {
        switch abs(code) {
        // NLE_OBJ_NOTFOUND; NLE_PERM and NLE_NOACCESS; NLE_NOMEM.
        case 12: SystemError(ENOENT, action)
        case 28, 10: SystemError(EPERM, action)
        case 5: SystemError(ENOMEM, action)
        default: SystemError(EIO, "\(action) (libnl: \(String(cString: nl_geterror(code))))")
        }
    }

    /// The number of a generic netlink family; throws `ENOENT` when the kernel does not have it.
    public func family(_ name: String) throws -> UInt16 {
        let id = genl_ctrl_resolve(handle, name)
        if id < 0 { throw NetlinkSocket.error(id, "find the kernel's \(name)") }
        return UInt16(id)
    }

    /// Joins a multicast group of a generic family.
    public func joinGroup(family: String, group: String) throws {
        let id = genl_ctrl_resolve_grp(handle, family, group)
        if id < 0 { throw NetlinkSocket.error(id, "find group \(group) of \(family)") }
        try join(group: UInt32(id))
    }

    /// Joins a multicast group by number.
    public func join(group: UInt32) throws {
        var number = group
        if setsockopt(descriptor, LinuxConstant.netlinkLevel, LinuxConstant.netlinkAddMembership, &number, 4) < 0 {
            throw SystemError(errno, "listen to netlink group \(group)")
        }
    }

    /// Asks for a receive buffer, bytes; past the system's bound where the caller may.
    public func setReceiveBuffer(_ size: Int32) {
        var size = size
        if setsockopt(descriptor, SOL_SOCKET, LinuxConstant.forceReceiveBuffer, &size, 4) < 0 {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4)
        }
    }

    /// Asks for a send buffer, bytes.
    public func setSendBuffer(_ size: Int32) {
        var size = size
        if setsockopt(descriptor, SOL_SOCKET, LinuxConstant.forceSendBuffer, &size, 4) < 0 {
            setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, 4)
        }
    }

    /// Sends a request and waits for its acknowledgement, handing every answer to `body`.
    ///
    /// - Throws: what the kernel refused, in its own words where it has some.
    public func request(
        _ message: inout NetlinkMessage, _ action: @autoclosure () -> String, _ body: (NetlinkReader) -> Void = { _ in }
    ) throws {
        sequence &+= 1
        wasInterrupted = false
        message.finish(flags: message.flags | 0x1 | (message.isDump ? 0x300 : 0x4), sequence: sequence)
        try send(message.bytes, action())
        try collect(sequence, action(), body)
    }

    /// Sends messages in one piece under one sequence number and waits for the acknowledgement of one of them, or for the
    /// refusal of any.
    func requestBatch(_ messages: [NetlinkMessage], acknowledged: Int, _ action: String) throws {
        sequence &+= 1
        var bytes: [UInt8] = []
        for (index, message) in messages.enumerated() {
            var message = message
            message.finish(flags: message.flags | 0x1 | (index == acknowledged ? 0x4 : 0), sequence: sequence)
            bytes += message.bytes
        }
        try send(bytes, action)
        try collect(sequence, action) { _ in }
    }

    /// Sends bytes as they are.
    public func send(_ bytes: [UInt8], _ action: @autoclosure () -> String) throws {
        let sent = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, 0) }
        if sent < 0 { throw SystemError(errno, action()) }
    }

    private func collect(_ expected: UInt32, _ action: String, _ body: (NetlinkReader) -> Void) throws {
        while true {
            let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
            if count < 0 {
                if errno == EINTR { continue }
                throw SystemError(errno, action)
            }
            var isDone = false
            var failure: SystemError?
            NetlinkReader.forEachMessage(UnsafeRawBufferPointer(rebasing: buffer[..<count])) {
                type, flags, sequence, payload in
                guard sequence == expected else { return }
                if flags & 0x10 != 0 { wasInterrupted = true }  // NLM_F_DUMP_INTR
                switch type {
                case 2:  // NLMSG_ERROR: an acknowledgement when the code is zero
                    isDone = true
                    guard payload.count >= 4 else { return }
                    let code = payload.loadUnaligned(as: Int32.self)
                    if code != 0 { failure = SystemError(code, action + NetlinkReader.reason(payload)) }
                case 3: isDone = true  // NLMSG_DONE
                default: body(NetlinkReader(payload, type: type, sequence: sequence))
                }
            }
            if let failure { throw failure }
            if isDone { return }
        }
    }

    /// Reads what has come without a request; returns false when the socket overflowed and something was lost.
    public func receive(_ body: (NetlinkReader) -> Void) throws -> Bool {
        let count = recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
        if count < 0 {
            if errno == EAGAIN || errno == EINTR { return true }
            if errno == ENOBUFS { return false }
            throw SystemError(errno, "read a netlink socket")
        }
        NetlinkReader.forEachMessage(UnsafeRawBufferPointer(rebasing: buffer[..<count])) { type, _, sequence, payload in
            body(NetlinkReader(payload, type: type, sequence: sequence))
        }
        return true
    }
}
