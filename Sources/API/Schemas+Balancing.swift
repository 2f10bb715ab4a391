// SPDX-License-Identifier: Apache-2.0
import Topology

/// What pools and virtual addresses look like in JSON.
extension Schemas {
    static var pool: Schema {
        .named(
            "Pool",
            [
                Property("name", .name(2), "`tenant/pool`."),
                Property(
                    "algorithm", .string(values: Pool.Algorithm.allCases.map(\.rawValue)),
                    "How the member is chosen that a new connection goes to; by turns unless said."),
                Property(
                    "persistence", .integer(1...Int(Pool.longestPersistence)),
                    "How long a client comes to the same member after its last new connection, seconds."),
                Property("monitor", monitor, "How they are checked; not at all unless said."),
                Property("members", .array(member), "The servers."),
            ] + versions())
    }

    private static let monitor = Schema.named(
        "Monitor",
        [
            Property(
                "type", .string(values: HealthMonitor.Kind.allCases.map(\.rawValue)), required: true,
                "What a member is asked."),
            Property("port", .integer(1...65_535), "The port that is asked; the member's own unless said."),
            Property("path", .string(), "The path of a request; / unless said."),
            Property("host", .string(), "The name that a request is for; the member's address unless said."),
            Property(
                "status", .array(.string(pattern: "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$")),
                "Statuses that are good; 200-299 unless said."),
            Property("delay", .number, "From one check to the next, 0.1 to 3600 seconds; 2 unless said."),
            Property("timeout", .number, "How long an answer may take, seconds; 1 unless said, at most the delay."),
            Property("rise", .integer(1...50), "Good answers in a row that bring a member back; 2 unless said."),
            Property(
                "fall", .integer(1...50), "Checks in a row that fail before a member gets nothing new; 3 unless said."),
        ])

    private static let member = Schema.named(
        "PoolMember",
        [
            Property("address", .string(), required: true, "Its address."),
            Property("port", .integer(1...65_535), "Its port; the one that was asked for unless said."),
            Property(
                "weight", .integer(0...PoolMember.largestWeight),
                "Its share, against those of the others; 1 unless said."),
            Property(
                "state", .string(values: PoolMember.State.allCases.map(\.rawValue)),
                "What it takes: new connections; those of clients that come back to it; none. Up unless said."),
        ])

    static let memberView = Schema.named(
        "MemberView",
        [
            Property("member", member, required: true, "The member, as the pool has it."),
            Property(
                "views",
                .array(
                    .object([
                        Property("router", .name(2), required: true, "A router behind whose addresses it is."),
                        Property(
                            "health", .string(values: ["up", "down", "unknown"]), required: true,
                            "Whether it gets new connections by what checks found; unknown while it was not checked."),
                        Property("reason", .string(), "What the last checks found."),
                        Property("since", .string(), "Since when it is up or down."),
                        Property("connections", .integer(0...Int.max), required: true, "Connections that it has."),
                    ])), required: true, "How it is, by router."),
        ])

    static let virtualAddress = Schema.named(
        "VirtualAddress",
        [
            Property("id", .name(1), "Names it in its router; its place unless said."),
            Property("address", .string(), required: true, "The address that clients ask."),
            Property("protocol", .string(values: ["tcp", "udp", "sctp"]), "TCP unless said."),
            Property(
                "ports", .array(.string(pattern: "^[0-9]{1,5}(-[0-9]{1,5})?$")), required: true,
                "The ports that clients ask: 80, 8000-8999."),
            Property("pool", .name(1), required: true, "The pool that serves them."),
        ])
}
