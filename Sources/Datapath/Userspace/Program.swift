// SPDX-License-Identifier: Apache-2.0
import Wire

/// A flow's actions compiled to plain records: no reference is counted and nothing allocated when a packet runs them.
struct Program {
    enum Code: UInt8 {
        case output
        case userspace
        case setTunnel
        case setEthernet
        case setIPv4
        case setIPv6
        case setPorts
        case pushVLAN
        case popVLAN
        /// The next output sends `a` bytes at most.
        case truncate
        /// Goes on at instruction `a` when the packet is longer than `b`.
        case jumpIfLonger
        /// Goes on at instruction `a` when meter `port` does not let the packet through.
        case jumpUnlessMetered
        /// Goes on at instruction `a` unless a number by chance is `b` at most.
        case jumpUnlessSampled
        case end
    }

    struct Instruction {
        var code: Code
        var port: UInt32 = 0
        var a: UInt64 = 0
        var b: UInt64 = 0
        var c: UInt64 = 0
        var d: UInt64 = 0
        /// Value and mask, owned by the program.
        var fields: UnsafeMutablePointer<(value: FlowKey, mask: FlowKey)>?
    }

    let instructions: UnsafeMutablePointer<Instruction>
    let count: Int
    /// How many flows share it.
    private let users: UnsafeMutablePointer<Int>
    /// The port, when all there is to do is one output; -1 otherwise.
    let onlyOutput: Int32

    init(_ actions: [Action]) {
        var list: [Instruction] = []
        Program.compile(actions, into: &list)
        if list.last?.code != .end { list.append(Instruction(code: .end)) }
        instructions = .allocate(capacity: list.count)
        instructions.initialize(from: list, count: list.count)
        count = list.count
        users = .allocate(capacity: 1)
        users.initialize(to: 1)
        if list.count == 2, list[0].code == .output { onlyOutput = Int32(list[0].port) } else { onlyOutput = -1 }
    }

    /// One more user; each must ``free()`` it.
    func share() -> Program {
        users.pointee += 1
        return self
    }

    func free() {
        users.pointee -= 1
        if users.pointee > 0 { return }
        users.deallocate()
        for index in 0..<count { instructions[index].fields?.deallocate() }
        instructions.deallocate()
    }

    private static func compile(_ actions: [Action], into list: inout [Instruction]) {
        for action in actions {
            switch action {
            case .output(let port): list.append(Instruction(code: .output, port: port.value))
            case .userspace(let cookie): list.append(Instruction(code: .userspace, a: cookie))
            case .setTunnel(let header):
                list.append(
                    Instruction(
                        code: .setTunnel, port: header.id, a: header.destination.high, b: header.destination.low,
                        c: UInt64(header.ttl) | UInt64(header.tos) << 8 | UInt64(header.priority) << 32))
            case .setEthernet(let source, let sourceMask, let destination, let destinationMask):
                list.append(
                    Instruction(
                        code: .setEthernet, a: source.bits, b: sourceMask, c: destination.bits, d: destinationMask))
            case .setIPv4(let value, let mask):
                list.append(Instruction(code: .setIPv4, fields: pair(value.key, mask.key)))
            case .setIPv6(let value, let mask):
                list.append(Instruction(code: .setIPv6, fields: pair(value.key, mask.key)))
            case .setPorts(let ipProtocol, let source, let sourceMask, let destination, let destinationMask):
                var value = FlowKey()
                var mask = FlowKey()
                value.sourcePort = source
                value.destinationPort = destination
                mask.sourcePort = sourceMask
                mask.destinationPort = destinationMask
                list.append(Instruction(code: .setPorts, a: UInt64(ipProtocol), fields: pair(value, mask)))
            case .pushVLAN(let tpid, let tci):
                list.append(Instruction(code: .pushVLAN, a: UInt64(tpid), b: UInt64(tci & 0xefff)))
            case .popVLAN: list.append(Instruction(code: .popVLAN))
            case .truncate(let length): list.append(Instruction(code: .truncate, a: UInt64(max(14, length))))
            case .metered(let meter, let nested):
                let at = list.count
                list.append(Instruction(code: .jumpUnlessMetered, port: meter.value))
                compile(nested, into: &list)
                // Not the end, but what follows.
                list.removeLast()
                list[at].a = UInt64(list.count)
            case .sampled(let count, let nested):
                let at = list.count
                list.append(Instruction(code: .jumpUnlessSampled, b: UInt64(UInt32.max / max(1, count))))
                compile(nested, into: &list)
                list.removeLast()
                list[at].a = UInt64(list.count)
            case .checkLength(let limit, let tooLong, let fits):
                let at = list.count
                list.append(Instruction(code: .jumpIfLonger, b: UInt64(max(0, limit))))
                compile(fits, into: &list)
                list.append(Instruction(code: .end))
                list[at].a = UInt64(list.count)
                compile(tooLong, into: &list)
            }
        }
        list.append(Instruction(code: .end))
    }

    private static func pair(_ value: FlowKey, _ mask: FlowKey) -> UnsafeMutablePointer<(value: FlowKey, mask: FlowKey)>
    {
        let pointer = UnsafeMutablePointer<(value: FlowKey, mask: FlowKey)>.allocate(capacity: 1)
        pointer.initialize(to: (value, mask))
        return pointer
    }
}
