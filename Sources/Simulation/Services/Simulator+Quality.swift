// SPDX-License-Identifier: Apache-2.0
import Wire

/// How packets are marked.
extension Simulator {
    /// Gives what a machine sends a DSCP (RFC 2474); what it says of congestion (RFC 3168) stays its own.
    mutating func mark(_ dscp: UInt8, _ index: Int32) {
        guard key.etherType == EtherType.ipv4 || key.etherType == EtherType.ipv6 else { return }
        if isTracing { note("qos", Int(index), "marked with DSCP \(dscp)") }
        key.ipTOS = dscp << 2 | key.ipTOS & 3
        written.include(.ipDSCP)
        headerChanged()
    }
}

extension Verdict.Header {
    /// The traffic class that tunnels carry the packet with: that which it was marked with, or none.
    public var tunnelTOS: UInt8 {
        var dscp = FlowMask()
        dscp.include(.ipDSCP)
        let isMarked = written.bits.words[10] & dscp.bits.words[10] != 0
        return isMarked ? key.ipTOS & 0xfc : 0
    }
}
