// SPDX-License-Identifier: Apache-2.0
import Wire

extension Verdict {
    /// A frame as it leaves with one of ``headers``: addresses, ports and tags written, checksums right.
    public func frame(_ frame: [UInt8], leavingAs header: Int32) -> [UInt8] {
        let header = headers[Int(header)]
        var frame = frame
        edit?.apply(to: &frame)
        var tags = 0
        frame.withUnsafeMutableBytes { bytes in
            var layout = PacketLayout()
            let key = FlowKey(parsing: UnsafeRawBufferPointer(bytes).bytes, layout: &layout)
            tags = key.hasVLAN ? key.innerVLANTPID == 0 ? 1 : 2 : 0
            let rewriter = FrameRewriter(bytes, layout: layout, partialChecksum: false)
            rewriter.setEthernet(header.key, header.written.bits)
            if header.key.etherType == EtherType.ipv4 { rewriter.setIPv4(header.key, header.written.bits) }
            if header.key.etherType == EtherType.ipv6 { rewriter.setIPv6(header.key, header.written.bits) }
            rewriter.setPorts(header.key, header.written.bits, ipProtocol: header.key.ipProtocol)
        }
        frame.removeSubrange(12..<12 + 4 * tags)
        let key = header.key
        if key.innerVLANTPID != 0 {
            frame = Frame.tagged(frame, vlan: key.innerVLANTCI & ~0x1000, tpid: key.innerVLANTPID)
        }
        if key.hasVLAN { frame = Frame.tagged(frame, vlan: key.vlanTCI & ~0x1000, tpid: key.vlanTPID) }
        return frame
    }
}
