// SPDX-License-Identifier: Apache-2.0
import Wire

/// A list of rules, in the manner of iptables: the first that decides wins, and its end lets the packet go on.
///
/// Chains filter what comes into a port, bridge or router and what goes out of it, and other chains jump to them.
public struct Chain: Sendable, Equatable {
    /// Its name; chains have a set of names of their own in a tenant.
    public var path: DevicePath
    /// The rules, in order.
    public var rules: [Rule] = []

    /// Rules of one chain, at most.
    public static let rulesPerChain = 4096
    /// Jumps into one another, at most.
    public static let depth = 16

    /// An empty chain.
    public init(path: DevicePath) { self.path = path }
}

/// What happens to packets that a condition holds for.
public struct Rule: Sendable, Equatable {
    /// What a rule does.
    public enum Action: Sendable, Equatable {
        /// The packet may go on: the filter is over.
        case accept
        /// The packet is dropped without a word.
        case drop
        /// The packet is dropped, and its sender told: a reset for TCP, otherwise "communication administratively
        /// prohibited" (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
        case reject
        /// Back to the chain that jumped here; the end where nobody did.
        case `return`
        /// On to the next rule: the packet is only counted.
        case `continue`
        /// On to the next rule, with a line in the log.
        case log
        /// Through another chain of the tenant, by its own name; behind its end, the next rule.
        case jump(String)
    }

    /// Names the rule in its chain.
    public var id: String
    /// Which packets it is for.
    public var condition: Condition
    /// What happens to them.
    public var action: Action

    /// A rule.
    public init(id: String, condition: Condition = Condition(), action: Action) {
        self.id = id
        self.condition = condition
        self.action = action
    }
}

/// What filters a device or port: names of chains of the same tenant.
public struct Filters: Sendable, Hashable {
    /// For what comes in; `nil` lets everything in.
    public var inbound: String?
    /// For what goes out; `nil` lets everything out.
    public var outbound: String?

    /// No filters.
    public init() {}

    /// Whether there is none.
    public var isEmpty: Bool { inbound == nil && outbound == nil }
}
