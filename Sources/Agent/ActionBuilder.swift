// SPDX-License-Identifier: Apache-2.0
import Datapath
import Linux
import Netlink
import Simulation
import Topology
import Wire

/// Turns a verdict's outputs into datapath actions: the shortest steps from one output's header to the next one's.
struct ActionBuilder {
    private var actions: [Action] = []
    private var current: Verdict.Header
    private let original: FlowKey
    /// What takes the packet into its machine's queue on the way to other hosts.
    private var priority: UInt32 = 0
    /// Bits that the actions rely on beyond those that the simulation read.
    private(set) var mask: FlowMask

    private init(_ header: Verdict.Header, mask: FlowMask) {
        current = header
        original = header.key
        self.mask = mask
    }

    /// The actions and the final mask of a verdict. Ports that are not present yield nothing.
    static func actions(of verdict: borrowing Verdict, _ epoch: Epoch) -> (actions: [Action], mask: FlowMask) {
        guard let first = verdict.headers.first, !verdict.outputs.isEmpty || !verdict.copies.isEmpty else {
            return ([], verdict.mask)
        }
        var builder = ActionBuilder(first, mask: verdict.mask)
        if case .exterior(let port)? = epoch.ingress(first.key.inPort) {
            builder.priority = UnderlayQueues.priority(of: epoch.queue(of: port))
        }
        for copy in verdict.copies { builder.add(copy, verdict, epoch) }
        for output in verdict.outputs {
            switch output.destination {
            case .local(let port):
                guard let number = epoch.number(of: port) else { continue }
                builder.rewrite(to: verdict.headers[Int(output.header)])
                if let meter = epoch.meter(of: port, .ingress) {
                    builder.actions.append(.metered(meter, [.output(number)]))
                } else {
                    builder.actions.append(.output(number))
                }
            case .remote(let host, let key):
                guard let tunnel = epoch.tunnel(to: host, key: key, from: first.key.inPort) else { continue }
                builder.rewrite(to: verdict.headers[Int(output.header)])
                builder.actions.append(
                    .setTunnel(
                        TunnelHeader(
                            id: key, source: tunnel.path.end.local, destination: tunnel.path.remote,
                            tos: verdict.headers[Int(output.header)].tunnelTOS, priority: builder.priority)))
                builder.actions.append(.output(tunnel.port))
            }
        }
        // What a machine sends is measured where it comes in, whatever becomes of it.
        if case .exterior(let port)? = epoch.ingress(first.key.inPort), let meter = epoch.meter(of: port, .egress),
            !builder.actions.isEmpty
        {
            builder.actions = [.metered(meter, builder.actions)]
        }
        if verdict.lengthLimit > 0, !builder.actions.isEmpty {
            let check = Action.checkLength(
                limit: Int(verdict.lengthLimit), tooLong: [.userspace(cookie: ActionCookies.tooLong)],
                fits: builder.actions)
            return ([check], builder.mask)
        }
        return (builder.actions, builder.mask)
    }

    /// A copy for a mirror. Where it has no way nothing is done.
    private mutating func add(_ copy: MirrorCopy, _ verdict: borrowing Verdict, _ epoch: Epoch) {
        let header = verdict.headers[Int(copy.header)]
        var steps: [Action] = []
        switch copy.destination {
        case .port(.local(let port)):
            guard let number = epoch.number(of: port) else { return }
            steps.append(.output(number))
        case .port(.remote(let host, let key)):
            guard let tunnel = epoch.tunnel(to: host, key: key, from: original.inPort) else { return }
            // What a machine is promised is not for copies of what it sends.
            steps.append(
                .setTunnel(
                    TunnelHeader(
                        id: key, source: tunnel.path.end.local, destination: tunnel.path.remote, tos: header.tunnelTOS))
            )
            steps.append(.output(tunnel.port))
        case .outside(.ipfix):
            let way = RecordedWay(verdict, mirror: copy.mirror, ingress: copy.ingress, epoch.fabric)
            guard let cookie = epoch.recorder?.cookie(of: way, now: wallMilliseconds()) else { return }
            steps.append(.userspace(cookie: cookie))
        case .outside(let target):
            guard let number = epoch.collector(target) else { return }
            steps.append(.output(number))
        }
        if copy.length > 0 { steps.insert(.truncate(Int(copy.length)), at: steps.count - 1) }
        rewrite(to: header)
        if copy.isLimited {
            // Without its meter it would have no limit.
            guard let meter = epoch.meter(of: copy.mirror) else { return }
            steps = [.metered(meter, steps)]
        }
        if copy.sample > 1 { steps = [.sampled(oneOf: copy.sample, steps)] }
        actions += steps
    }

    private mutating func rewrite(to target: Verdict.Header) {
        setTags(target.key)
        setEthernet(target)
        setIP(target)
        setPorts(target)
        current = target
    }

    /// Makes the VLAN tags those of `target`. Tags differ by one push, one pop or a changed outer tag.
    private mutating func setTags(_ target: FlowKey) {
        let have = current.key
        if have.vlanTCI == target.vlanTCI, have.vlanTPID == target.vlanTPID, have.innerVLANTCI == target.innerVLANTCI {
            return
        }
        if have.hasVLAN {
            // The inner tag that shows after the pop may already be what is wanted.
            actions.append(.popVLAN)
            if target.vlanTCI == have.innerVLANTCI, target.vlanTPID == have.innerVLANTPID { return }
        }
        guard target.hasVLAN else { return }
        // A tag that is pushed again says the packet's own priority, which then has to be matched.
        if original.hasVLAN { mask.include(.vlanTCI) }
        actions.append(.pushVLAN(tpid: target.vlanTPID, tci: target.vlanTCI))
    }

    /// Bits to set for a field so that it becomes `target`'s: those written for it, and those written for an earlier
    /// output that must be as they came in again, which then have to be matched.
    private mutating func bits(_ target: Verdict.Header, word: Int, field: UInt64) -> UInt64 {
        let wanted = target.written.bits.words[word] & field
        let restored = current.written.bits.words[word] & field & ~wanted
        if restored != 0 { mask.bits.words[word] |= restored }
        let all = wanted | restored
        // What an earlier step wrote already needs no second writing.
        let same = ~(current.key.words[word] ^ target.key.words[word])
        return all & ~(same & current.written.bits.words[word])
    }

    private mutating func setEthernet(_ target: Verdict.Header) {
        let destination = bits(target, word: 7, field: 0xffff_ffff_ffff)
        let source = bits(target, word: 8, field: 0xffff_ffff_ffff)
        guard source | destination != 0 else { return }
        actions.append(
            .setEthernet(
                source: MACAddress(bits: target.key.etherSource.bits & source), sourceMask: source,
                destination: MACAddress(bits: target.key.etherDestination.bits & destination),
                destinationMask: destination))
    }

    private mutating func setIP(_ target: Verdict.Header) {
        var value = FlowKey()
        var bits = FlowKey()
        var any: UInt64 = 0
        for word in 10...14 {
            let set = self.bits(target, word: word, field: word == 10 ? 0x00ff_ff00 : ~0)
            bits.words[word] = set
            value.words[word] = target.key.words[word] & set
            any |= set
        }
        guard any != 0 else { return }
        if target.key.etherType == EtherType.ipv6 {
            actions.append(.setIPv6(value: IPFields(value), mask: IPFields(bits)))
        } else {
            actions.append(.setIPv4(value: IPFields(value), mask: IPFields(bits)))
        }
    }
}

extension ActionBuilder {
    private mutating func setPorts(_ target: Verdict.Header) {
        var fields = FlowMask()
        fields.include(.sourcePort)
        fields.include(.destinationPort)
        var set = FlowKey()
        set.words[15] = bits(target, word: 15, field: fields.bits.words[15])
        guard set.words[15] != 0 else { return }
        actions.append(
            .setPorts(
                ipProtocol: target.key.ipProtocol, source: target.key.sourcePort & set.sourcePort,
                sourceMask: set.sourcePort, destination: target.key.destinationPort & set.destinationPort,
                destinationMask: set.destinationPort))
    }
}

/// Cookies of actions that hand packets up.
public enum ActionCookies {
    /// Longer than the tunnel takes.
    public static let tooLong: UInt64 = 1
    /// Sent by another host to see whether the tunnel works.
    public static let probe: UInt64 = 2
    /// Low byte of the cookies of packets that flows are told of by, see ``FlowRecorder``.
    public static let sampled: UInt64 = 3
}
