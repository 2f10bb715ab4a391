// SPDX-License-Identifier: Apache-2.0
import Simulation
import Topology
import Wire

/// A line that a rule asked for: the first packet of a flow met it.
public struct RuleLog: Sendable {
    /// The chain, and with it the tenant.
    public var chain: DevicePath
    /// The rule's id.
    public var rule: String
    /// Where the packet came in.
    public var port: PortPath
    /// Who talks to whom: `tcp 10.0.0.1:1025 > 10.0.0.2:80`, or the frame's EtherType and MACs.
    public var packet: String
    /// What became of the packet: `forward`, or why it was dropped.
    public var verdict: String
}

extension PacketThread {
    private static func describe(_ key: FlowKey) -> String {
        switch key.etherType {
        case EtherType.ipv4, EtherType.ipv6:
            let hasPorts = [IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp].contains(key.ipProtocol)
            return ConnectionTuple(
                source: key.ipSource, destination: key.ipDestination, sourcePort: hasPorts ? key.sourcePort : 0,
                destinationPort: hasPorts ? key.destinationPort : 0, ipProtocol: key.ipProtocol
            ).description
        case EtherType.arp: return "arp \(key.ipSource) > \(key.ipDestination)"
        default: return "\(EtherType.name(of: key.etherType)) \(key.etherSource) > \(key.etherDestination)"
        }
    }

    /// Writes what rules ask for, as often as each may.
    func log(_ verdict: borrowing Verdict, _ key: FlowKey, at port: PortIndex) {
        for reference in verdict.logs {
            guard
                logBudget[reference, default: RateLimit(perSecond: AgentLimits.logsPerRule)].take(now: now),
                let place = epoch.fabric.rule(reference)
            else {
                counters.unlogged &+= 1
                continue
            }
            counters.logged &+= 1
            logRule(
                RuleLog(
                    chain: place.chain, rule: place.id, port: epoch.fabric.path(port),
                    packet: Self.describe(key),
                    verdict: verdict.drop?.rawValue ?? "forward"))
        }
    }
}
