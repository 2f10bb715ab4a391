// SPDX-License-Identifier: Apache-2.0

/// Who belongs to the cluster, and who votes. While `outgoing` is not empty the configuration is *joint*: every decision
/// needs a majority of the voters in `list` and one of `outgoing` (Raft, section 6).
public struct Members: Hashable, Sendable {
    /// What a member does.
    public enum Role: UInt8, Hashable, Sendable, CaseIterable {
        /// Votes.
        case voter
        /// Receives the log and does not vote.
        case learner
        /// A learner that becomes a voter as soon as it has caught up.
        case joining
    }
    /// Members in order of id.
    public private(set) var list: [Member]
    /// Voters of the configuration before, in order of id; empty when that is over.
    public var outgoing: [NodeID]

    /// A member and what it does.
    public struct Member: Hashable, Sendable {
        /// Who.
        public var id: NodeID
        /// What it does.
        public var role: Role

        /// A member.
        public init(_ id: NodeID, _ role: Role) {
            self.id = id
            self.role = role
        }
    }

    /// Members of any order; of two with one id the last counts.
    public init(_ members: [Member] = [], outgoing: [NodeID] = []) {
        var roles: [NodeID: Role] = [:]
        for member in members { roles[member.id] = member.role }
        list = roles.map { Member($0.key, $0.value) }.sorted { $0.id < $1.id }
        self.outgoing = outgoing.sorted()
    }

    /// Members that all vote.
    public init(voters: [NodeID]) { self.init(voters.map { Member($0, .voter) }) }

    /// Whether two majorities are needed.
    public var isJoint: Bool { !outgoing.isEmpty }
    /// Those that vote in the configuration to come, or the only one.
    public var voters: [NodeID] { list.filter { $0.role == .voter }.map(\.id) }
    /// Everybody who receives the log, in order of id.
    public var all: [NodeID] { Set(list.map(\.id)).union(outgoing).sorted() }

    /// What a member does; `nil` when it is none, or only one of those that go.
    public func role(of id: NodeID) -> Role? { list.first { $0.id == id }?.role }

    /// Whether a member's vote counts.
    public func isVoter(_ id: NodeID) -> Bool { role(of: id) == .voter || outgoing.contains(id) }

    /// Gives a member a role, or takes it out.
    public mutating func set(_ id: NodeID, _ role: Role?) {
        list.removeAll { $0.id == id }
        if let role { list.append(Member(id, role)) }
        list.sort { $0.id < $1.id }
    }

    // MARK: - Majorities

    /// Whether those for whom `isFor` holds are a majority of what is needed.
    public func hasQuorum(_ isFor: (NodeID) -> Bool) -> Bool {
        Members.hasMajority(voters, isFor) && (outgoing.isEmpty || Members.hasMajority(outgoing, isFor))
    }

    /// Whether those for whom `isAgainst` holds keep the others from a quorum for good.
    public func isLost(_ isAgainst: (NodeID) -> Bool) -> Bool {
        !hasQuorum { !isAgainst($0) }
    }

    private static func hasMajority(_ voters: [NodeID], _ isFor: (NodeID) -> Bool) -> Bool {
        // Nobody decides nothing: a cluster without voters must not elect.
        !voters.isEmpty && voters.count(where: isFor) > voters.count / 2
    }

    /// The highest index that a quorum has, by what each has.
    public func committedIndex(_ match: (NodeID) -> LogIndex) -> LogIndex {
        let incoming = Members.majorityIndex(voters, match)
        return outgoing.isEmpty ? incoming : min(incoming, Members.majorityIndex(outgoing, match))
    }

    private static func majorityIndex(_ voters: [NodeID], _ match: (NodeID) -> LogIndex) -> LogIndex {
        guard !voters.isEmpty else { return 0 }
        return voters.map(match).sorted(by: >)[voters.count / 2]
    }
}
