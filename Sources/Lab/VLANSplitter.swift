// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import Netlink
import Wire

/// VLAN interfaces for machines on kernels without 802.1Q: a cable for each VLAN, and a thread that carries frames between
/// the cables' far ends and the trunk, tags put on and taken off. It ends when the trunk goes.
enum VLANSplitter {
    /// Frames of up to 64 KiB left to be segmented, and the header that says so.
    private static let bufferSize = 66_000
    /// `struct virtio_net_hdr`.
    private static let headSize = 10

    /// Makes `vlanN` for each id in this thread's namespace and begins to carry.
    static func start(on trunk: String, ids: [UInt16], mtu: Int) throws {
        let index = try SystemError.check(cl_interface_index(trunk), "find interface \(trunk)")
        let socket = Descriptor(
            try SystemError.check(cl_packet_socket(index, 1 << 20), "open a packet socket on \(trunk)"))
        let route = try RouteNetlink()
        let here = Descriptor(try SystemError.check(cl_open_path("/proc/thread-self/ns/net"), "open the namespace"))
        var ends: [(id: UInt16, descriptor: Descriptor)] = []
        for id in ids {
            let end = "tag\(id)"
            try route.addVeth("vlan\(id)", mtu: mtu, peer: end, peerNamespace: here.number)
            // The far end is a plug, not a station.
            Supervisor.disableIPv6(on: end)
            try route.setUp(end)
            let number = try SystemError.check(
                cl_packet_socket(cl_interface_index(end), 1 << 20), "open a packet socket on \(end)")
            ends.append((id, Descriptor(number)))
        }
        let all = ends
        _ = try NamedThread("sel-vlans") { carry(socket, all) }
    }

    private static func carry(_ trunk: Descriptor, _ ends: [(id: UInt16, descriptor: Descriptor)]) {
        var buffer = [UInt8](repeating: 0, count: bufferSize)
        while true {
            var polls = [pollfd(fd: trunk.number, events: Int16(POLLIN), revents: 0)]
            polls += ends.map { pollfd(fd: $0.descriptor.number, events: Int16(POLLIN), revents: 0) }
            guard poll(&polls, nfds_t(polls.count), -1) > 0 else { continue }
            if Int32(polls[0].revents) & (POLLERR | POLLHUP | POLLNVAL) != 0, cl_is_gone(trunk.number) != 0 { return }
            if polls[0].revents != 0 { fromTrunk(trunk, ends, &buffer) }
            for (offset, end) in ends.enumerated() where polls[offset + 1].revents != 0 { toTrunk(end, trunk, &buffer) }
        }
    }

    private static func fromTrunk(
        _ trunk: Descriptor, _ ends: [(id: UInt16, descriptor: Descriptor)], _ buffer: inout [UInt8]
    ) {
        while true {
            var tag: Int64 = -1
            let count = receive(trunk.number, &buffer, &tag)
            guard count > 0 else { return }
            guard tag >= 0, let end = ends.first(where: { $0.id == UInt16(truncatingIfNeeded: tag) & 0x0fff }) else {
                continue
            }
            _ = send(end.descriptor.number, buffer, count, 0)
        }
    }

    private static func receive(_ descriptor: Int32, _ buffer: inout [UInt8], _ tag: inout Int64) -> Int {
        var control = [UInt64](repeating: 0, count: CL_CONTROL_SIZE / 8)
        return buffer.withUnsafeMutableBytes { bytes in
            control.withUnsafeMutableBytes { control in
                var piece = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
                return withUnsafeMutablePointer(to: &piece) { piece in
                    var message = cl_message()
                    message.iov = piece
                    message.iov_count = 1
                    message.control = control.baseAddress
                    message.control_length = control.count
                    guard cl_receive(descriptor, &message, 1) == 1 else { return 0 }
                    tag = cl_vlan_of(&message)
                    return Int(message.length)
                }
            }
        }
    }

    private static func toTrunk(
        _ end: (id: UInt16, descriptor: Descriptor), _ trunk: Descriptor, _ buffer: inout [UInt8]
    ) {
        while true {
            var tag: Int64 = -1
            let count = receive(end.descriptor.number, &buffer, &tag)
            guard count > headSize + 14 else { return }
            // The head's layer 4 offsets move with the tag, where there are any.
            var head = Array(buffer[..<headSize])
            for offset in [2, 6] where head[0] & 1 != 0 {
                let moved = (UInt16(head[offset]) | UInt16(head[offset + 1]) << 8) &+ 4
                head[offset] = UInt8(moved & 0xff)
                head[offset + 1] = UInt8(moved >> 8)
            }
            let frame = head + Frame.tagged(Array(buffer[headSize..<count]), vlan: end.id)
            _ = send(trunk.number, frame, frame.count, 0)
        }
    }
}
