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
                Property("members", .array(member), "The servers."),
            ] + versions())
    }

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
