// SPDX-License-Identifier: Apache-2.0
import Wire

/// What a simulation reads of the state that packets left behind. The state itself lives behind this seam: on one host
/// now, replicated later. Implementations are called on packet threads and must be quick.
public protocol FlowStateView: AnyObject, Sendable {
    /// The port (its tag) at which a MAC was last seen on a bridge.
    func port(of mac: MACAddress, vlan: UInt16, bridge: Tag) -> Tag?
    /// What is known of a neighbor of a router port.
    func neighbor(_ address: IPAddress, port: Tag) -> NeighborState
    /// The connection that a packet belongs to in a zone; `nil` when it would be the first. TCP flags tell whether it
    /// begins another one on the same ports.
    func connection(_ tuple: ConnectionTuple, zone: Tag, flags: UInt16) -> ConnectionMatch?
    /// Whether two addresses have any connection of a protocol in a zone, either way. The tuple has no ports.
    func hasConnections(_ pair: ConnectionTuple, zone: Tag) -> Bool
    /// The translated connection that a packet belongs to in a router's zone.
    func translation(_ tuple: ConnectionTuple, zone: Tag) -> TranslationMatch?
    /// What the source of a new connection may become. Nobody else is told of it before the connection is learned.
    func source(for wish: SourceWish) -> SourceChoice
    /// A port of its own machine that a new connection's source may keep or become; `nil` where there is none.
    func sourcePort(keeping tuple: ConnectionTuple, of original: ConnectionTuple, zone: Tag) -> UInt16?
    /// What the first fragment of a packet said in a router's zone.
    func fragment(_ name: FragmentName, zone: Tag) -> ConnectionTuple?
    /// How many connections a pool was chosen a member for, from where this host began to count.
    func turn(of pool: Tag) -> UInt64
    /// How many connections are sent to a member of pools, in a router's zone.
    func connections(to address: IPAddress, port: UInt16, ipProtocol: UInt8, zone: Tag) -> Int
    /// The member that a client's last connection was sent to, while it is to come back there.
    func member(of client: IPAddress, pool: Tag) -> UInt64?
    /// What checks of a member of a pool came to; `nil` where nobody checks.
    func health(of member: UInt64, pool: Tag) -> MemberHealth?
    /// The address that a bridge gave to a machine, by its identity.
    func address(of client: UInt64, bridge: Tag) -> IPAddress?
    /// Who has an address that a bridge gave.
    func lease(of address: IPAddress, bridge: Tag) -> Lease?
    /// The address that was leased last at a port.
    func leasedAddress(at port: Tag, family: AddressFamily) -> IPAddress?
    /// The port where an address that a bridge gave was leased.
    func port(leasing address: IPAddress, bridge: Tag) -> Tag?
    /// Who wants what is sent to a group; of all zeros, where multicast routers are.
    func members(of group: IPAddress, vlan: UInt16, bridge: Tag) -> [GroupMember]
    /// Whether a member is known.
    func isMember(_ member: GroupMember) -> Bool
    /// Whether what is sent to a host arrives, as far as is known. Verdicts that depend on it have ``Tag/path(host:)``.
    func canReach(_ host: Tag) -> Bool
}

extension FlowStateView {
    /// All are first.
    public func connection(_ tuple: ConnectionTuple, zone: Tag, flags: UInt16) -> ConnectionMatch? { nil }
    /// None.
    public func hasConnections(_ pair: ConnectionTuple, zone: Tag) -> Bool { false }
    /// All are new.
    public func translation(_ tuple: ConnectionTuple, zone: Tag) -> TranslationMatch? { nil }
    /// Its own.
    public func sourcePort(keeping tuple: ConnectionTuple, of original: ConnectionTuple, zone: Tag) -> UInt16? {
        tuple.sourcePort
    }
    /// Nothing.
    public func source(for wish: SourceWish) -> SourceChoice { .exhausted }
    /// The first.
    public func turn(of pool: Tag) -> UInt64 { 0 }
    /// None.
    public func connections(to address: IPAddress, port: UInt16, ipProtocol: UInt8, zone: Tag) -> Int { 0 }
    /// It did not come before.
    public func member(of client: IPAddress, pool: Tag) -> UInt64? { nil }
    /// Nobody checks.
    public func health(of member: UInt64, pool: Tag) -> MemberHealth? { nil }
    /// None.
    public func address(of client: UInt64, bridge: Tag) -> IPAddress? { nil }
    /// Nobody.
    public func lease(of address: IPAddress, bridge: Tag) -> Lease? { nil }
    /// None.
    public func leasedAddress(at port: Tag, family: AddressFamily) -> IPAddress? { nil }
    /// Nowhere.
    public func port(leasing address: IPAddress, bridge: Tag) -> Tag? { nil }
    /// Nobody.
    public func members(of group: IPAddress, vlan: UInt16, bridge: Tag) -> [GroupMember] { [] }
    /// It is not.
    public func isMember(_ member: GroupMember) -> Bool { false }
    /// It arrives.
    public func canReach(_ host: Tag) -> Bool { true }
    /// Never seen.
    public func fragment(_ name: FragmentName, zone: Tag) -> ConnectionTuple? { nil }
}

/// A state that knows nothing.
public final class EmptyFlowState: FlowStateView {
    /// No state.
    public init() {}
    /// Never seen.
    public func port(of mac: MACAddress, vlan: UInt16, bridge: Tag) -> Tag? { nil }
    /// Never told.
    public func neighbor(_ address: IPAddress, port: Tag) -> NeighborState { .unknown }
}

/// What is known of a neighbor.
public enum NeighborState: Sendable, Equatable {
    /// Nothing: it has to be asked.
    case unknown
    /// Its MAC.
    case at(MACAddress)
    /// It was asked and did not answer.
    case unreachable
}
