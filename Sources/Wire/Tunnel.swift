// SPDX-License-Identifier: Apache-2.0

/// GRE with a key (RFC 2784, 2890) around an Ethernet frame.
public enum GRE {
    /// Bytes of the header that Selvage sends: flags, type and key.
    public static let headerLength = 8

    /// Writes the header into the first eight bytes.
    @inlinable
    public static func write(key: UInt32, to bytes: UnsafeMutableRawBufferPointer) {
        bytes.put16(0x2000, at: 0)
        bytes.put16(EtherType.transEtherBridging, at: 2)
        bytes.put32(key, at: 4)
    }

    /// Reads a header: the key and where the inner frame begins; `nil` for anything but version 0 with a key and an
    /// Ethernet payload. A checksum and a sequence number are skipped, not checked.
    @inlinable
    public static func parse(_ bytes: RawSpan) -> (key: UInt32, length: Int)? {
        guard bytes.byteCount >= 8 else { return nil }
        let flags = bytes.u16(0)
        // Routing (RFC 1701) and version must be zero; without a key the packet is not ours.
        guard flags & 0x4fff == 0, flags & 0x2000 != 0, bytes.u16(2) == EtherType.transEtherBridging else { return nil }
        var at = 4
        if flags & 0x8000 != 0 { at += 4 }
        guard bytes.byteCount >= at + 4 else { return nil }
        let key = bytes.u32(at)
        at += 4
        if flags & 0x1000 != 0 { at += 4 }
        guard bytes.byteCount >= at else { return nil }
        return (key, at)
    }
}

/// ERSPAN type II, a copy of a frame for an analyzer (draft-foschiano-erspan): GRE with a sequence number, and a header.
public enum ERSPAN {
    /// Bytes of GRE header and its own.
    public static let headerLength = 16

    /// Writes both headers.
    ///
    /// - Parameters:
    ///   - session: 10 bits.
    ///   - sequence: how many went before.
    ///   - frame: the first 16 bytes of the frame; `nil`: it is shorter.
    ///   - isCut: whether the end of the frame is missing.
    public static func write(
        session: UInt16, sequence: UInt32, frame: UnsafeRawBufferPointer?, isCut: Bool,
        to bytes: UnsafeMutableRawBufferPointer
    ) {
        bytes.put16(0x1000, at: 0)
        bytes.put16(0x88be, at: 2)
        bytes.put32(sequence, at: 4)
        // Version 1; the frame's VLAN and priority, and that its tag is in the frame.
        var head: UInt32 = 1 << 28 | UInt32(session & 0x3ff) | (isCut ? 1 << 10 : 0)
        if let frame, frame.count >= 16, frame[12] == 0x81, frame[13] == 0 {
            let tag = UInt32(frame[14]) << 8 | UInt32(frame[15])
            head |= (tag & 0xfff) << 16 | (tag >> 13) << 13 | 3 << 11
        }
        bytes.put32(head, at: 8)
        bytes.put32(0, at: 12)
    }
}

/// VXLAN (RFC 7348).
public enum VXLAN {
    /// Bytes of the header.
    public static let headerLength = 8
    /// The IANA port.
    public static let port: UInt16 = 4789

    /// Writes the header into the first eight bytes; `vni` has 24 bits.
    @inlinable
    public static func write(vni: UInt32, to bytes: UnsafeMutableRawBufferPointer) {
        bytes.put32(0x0800_0000, at: 0)
        bytes.put32(vni << 8, at: 4)
    }

    /// Reads a header: the VNI, or `nil` when the VNI is not marked valid or bytes are missing.
    @inlinable
    public static func parse(_ bytes: RawSpan) -> UInt32? {
        guard bytes.byteCount >= 8, bytes.u8(0) & 0x08 != 0 else { return nil }
        return bytes.u32(4) >> 8
    }
}
