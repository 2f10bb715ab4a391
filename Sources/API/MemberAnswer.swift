// SPDX-License-Identifier: Apache-2.0

/// How a member of a pool is.
public struct MemberAnswer: Codable, Sendable, Equatable {
    /// How it is as seen from a router behind whose addresses it is.
    public struct View: Codable, Sendable, Equatable {
        /// The router.
        public var router: String
        /// `up` or `down`; `unknown` while it was not checked, or is not.
        public var health: String
        /// What the last checks found.
        public var reason: String?
        /// Since when it is up or down.
        public var since: String?
        /// Connections that it has.
        public var connections: Int

        /// Made by the node.
        public init(router: String, health: String, reason: String?, since: String?, connections: Int) {
            self.router = router
            self.health = health
            self.reason = reason
            self.since = since
            self.connections = connections
        }
    }

    /// The member, as the pool has it.
    public var member: PoolMemberResource
    /// How it is, by router.
    public var views: [View]

    /// Made by the node.
    public init(member: PoolMemberResource, views: [View]) {
        self.member = member
        self.views = views
    }
}
