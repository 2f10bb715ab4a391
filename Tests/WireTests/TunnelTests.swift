// SPDX-License-Identifier: Apache-2.0
import Testing
import Wire

/// Headers around frames.
@Suite struct TunnelTests {
    private func erspan(_ frame: [UInt8]?, isCut: Bool) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xff, count: ERSPAN.headerLength)
        bytes.withUnsafeMutableBytes { out in
            if let frame {
                frame.withUnsafeBytes {
                    ERSPAN.write(session: 1023, sequence: 7, frame: $0, isCut: isCut, to: out)
                }
            } else {
                ERSPAN.write(session: 5, sequence: 0x0102_0304, frame: nil, isCut: isCut, to: out)
            }
        }
        return bytes
    }

    @Test func `ERSPAN says session, number, VLAN and whether the end is missing`() {
        #expect(erspan(nil, isCut: false) == [0x10, 0, 0x88, 0xbe, 1, 2, 3, 4, 0x10, 0, 0, 5, 0, 0, 0, 0])
        let plain = [UInt8](repeating: 0, count: 12) + [8, 0, 0x45, 0]
        #expect(erspan(plain, isCut: true) == [0x10, 0, 0x88, 0xbe, 0, 0, 0, 7, 0x10, 0, 0x07, 0xff, 0, 0, 0, 0])
        let tagged = [UInt8](repeating: 0, count: 12) + [0x81, 0, 0xa1, 0x23]
        // VLAN 0x123, priority 5, its tag in the frame.
        #expect(erspan(tagged, isCut: false)[8..<12] == [0x11, 0x23, 0xbb, 0xff])
    }
}
