// SPDX-License-Identifier: Apache-2.0
import Topology

/// What the API's JSON looks like.
enum Schemas {
    typealias Property = Schema.Property
    private static let revision = Schema.integer(0...Int.max)
    private static let time = Schema.string(format: "date-time")

    static func versions() -> [Property] {
        [
            Property("created", revision, "The revision that made it. Not read."),
            Property("revision", revision, "The revision that changed it last. Not read: use If-Match."),
        ]
    }

    static func object(_ kind: ObjectKey.Kind) -> Schema {
        switch kind {
        case .bridge:
            .named(
                "Bridge",
                [
                    Property("name", .name(2), "`tenant/bridge`."),
                    Property("enabled", .boolean, "Whether it forwards; yes unless said."),
                    Property("subnets", .array(.string()), "Networks that live on it."),
                    Property("inbound", .name(1), "The chain that filters what comes in."),
                    Property("outbound", .name(1), "The chain that filters what goes out."),
                    Property(
                        "dhcp", .array(.map(.array(.string()))),
                        "Addresses that it gives to machines, by network, as in a manifest: \(DHCPSubnet.fieldNames.joined(separator: ", "))."
                    ),
                    Property(
                        "ra", .array(.map(.array(.string()))),
                        "IPv6 networks that it tells machines of, as in a manifest: \(AdvertisedPrefix.fieldNames.joined(separator: ", "))."
                    ),
                    Property(
                        "dns", .map(.array(.string())),
                        "Names that it answers for, as in a manifest: \(NameService.fieldNames.joined(separator: ", "))."
                    ),
                    Property(
                        "multicast", .map(.array(.string())),
                        "What is sent to groups goes to those who joined them, as in a manifest: \(MulticastService.fieldNames.joined(separator: ", "))."
                    ),
                    Property("floodKey", .integer(0...0xff_ffff), "The key of its floods in tunnels. Not read."),
                ] + versions())
        case .router:
            .named(
                "Router",
                [
                    Property("name", .name(2), "`tenant/router`."),
                    Property("enabled", .boolean, "Whether it forwards; yes unless said."),
                    Property("routes", .array(route), "Static routes."),
                    Property("inbound", .name(1), "The chain that filters packets before they are routed."),
                    Property("outbound", .name(1), "The chain that filters packets that were routed."),
                    Property("nat", .array(translation), "Rules that translate addresses, in order."),
                    Property("floating", .array(floating), "Addresses that stand for one machine each."),
                    Property("vips", .array(virtualAddress), "Addresses behind which pools of servers are."),
                    Property(
                        "bgp", .map(.array(.string())),
                        "What it says of itself to routers outside, as in a manifest: \(BGPSpeaker.fieldNames.joined(separator: ", "))."
                    ),
                ] + versions())
        case .port:
            .named(
                "Port",
                [
                    Property("name", .name(3), "`tenant/device/port`."),
                    Property("kind", .string(values: ["bridge", "router"]), "What its device is."),
                    Property("enabled", .boolean, "Whether it forwards; yes unless said."),
                    Property(
                        "mac", .string(), "MAC of the port, or of the machine behind it; made of the name unless said."),
                    Property("addresses", .array(.string()), "Addresses with prefix lengths."),
                    Property("vlan", .integer(0...4094), "The VLAN of its untagged frames."),
                    Property("trunk", trunk, "The VLANs of its tagged frames."),
                    Property("host", .string(), "The host that it is on."),
                    Property("interface", .string(), "The host's interface that it is bound to."),
                    Property("peer", .string(), "The port that it is linked to. Both ends have to say so."),
                    Property("inbound", .name(1), "The chain that filters what comes into the device by it."),
                    Property("outbound", .name(1), "The chain that filters what leaves the device by it."),
                    Property("groups", .array(.name(1)), "Port groups that it is in."),
                    Property("security", .array(.name(1)), "Security groups that it is in."),
                    Property(
                        "allowed", .array(.string()),
                        "What its machine may send as besides its MAC and addresses: addresses or networks, each with a MAC behind it where that is another."
                    ),
                    Property(
                        "qos", .map(.array(.string())),
                        "How much its machine may send and get, as in a manifest: \(PortQuality.fieldNames.joined(separator: ", "))."
                    ),
                    Property(
                        "services", .array(service), "What its traffic goes through, from the machine on."),
                    Property(
                        "vxlan", .map(.array(.string())),
                        "VXLAN end points of others that it leads to, as in a manifest: \(VXLANEnd.fieldNames.joined(separator: ", "))."
                    ),
                    Property(
                        "segment", .name(1),
                        "The network outside that it leads to as other ports of its bridge do: one of them carries, the one that works and has the highest preference."
                    ),
                    Property("preference", .integer(0...65_535), "The higher, the rather it carries; 100 unless said."),
                    Property(
                        "peers", .array(.map(.array(.string()))),
                        "Routers outside that it speaks BGP with, as in a manifest: \(BGPPeer.fieldNames.joined(separator: ", "))."
                    ),
                    Property(
                        "snippet", .string(), "What is to be in its routing daemon's configuration besides."),
                    Property(
                        "daemon", .string(values: Uplink.Daemon.allCases.map(\.rawValue)),
                        "Its routing daemon, BIRD unless said."),
                    Property("tunnelKey", .integer(0...0xff_ffff), "Its key in tunnels. Not read."),
                ] + versions())
        case .chain:
            .named(
                "Chain",
                [
                    Property("name", .name(2), "`tenant/chain`."),
                    Property("rules", .array(rule), "The rules, in order."),
                ] + versions())
        case .portGroup:
            .named(
                "PortGroup",
                [
                    Property("name", .name(2), "`tenant/group`."),
                    Property(
                        "stateful", .boolean,
                        "Whether its ports stand in for each other: what leaves by one may come back by any of them."),
                ] + versions())
        case .addressGroup:
            .named(
                "AddressGroup",
                [
                    Property("name", .name(2), "`tenant/group`."),
                    Property("addresses", .array(.string()), "Its members: addresses and networks."),
                ] + versions())
        case .securityGroup:
            .named(
                "SecurityGroup",
                [
                    Property("name", .name(2), "`tenant/group`."),
                    Property("in", .array(securityRule), "What its machines may get."),
                    Property("out", .array(securityRule), "What its machines may send; anything unless said."),
                ] + versions())
        case .pool: pool
        case .mirror: mirror
        case .tenant:
            .named(
                "Tenant",
                [
                    Property("name", .name(1), "The tenant."),
                    Property(
                        "limits", .map(.integer(1...Int(TenantSettings.largestLimit))),
                        "Bounds of what one host keeps for it: \(TenantSettings.Limit.allCases.map(\.rawValue).joined(separator: ", "))."
                    ),
                    Property(
                        "lifetimes", .map(.integer(1...Int(TenantSettings.longestLifetime))),
                        "How long its connections are known after their last packet, seconds: \(TenantSettings.Lifetime.allCases.map(\.rawValue).joined(separator: ", "))."
                    ),
                ] + versions())
        case .host:
            .named(
                "Host",
                [
                    Property("name", .name(1), "Its name."),
                    Property("tunnelAddresses", .map(.string()), "Its tunnel address in each zone."),
                    Property(
                        "rate", .string(),
                        "What its interface to other hosts sends, bits a second such as 10G: it keeps what it promises to machines by sending no more."
                    ),
                ] + versions())
        case .zone:
            .named(
                "Zone",
                [
                    Property("name", .name(1), "Its name."),
                    Property("tunnel", .string(values: ["gre", "vxlan"]), "GRE unless said."),
                    Property("mtu", .integer(1280...65_535), "MTU of the underlay, bytes; 1500 unless said."),
                ] + versions())
        }
    }

    static let rule = Schema.named(
        "Rule",
        [
            Property("id", .name(1), "Names the rule in its chain; its place unless said."),
            Property(
                "action",
                .string(pattern: "^(accept|drop|reject|return|continue|log|jump [0-9A-Za-z][0-9A-Za-z._-]{0,62})$"),
                required: true, "What happens: accept, drop, reject, return, continue, log, jump CHAIN."),
            Property(
                "match", .map(.array(.string())),
                "Which packets, as in a manifest: field and values, `not` before a field that is inverted."),
        ])

    private static let securityRule = Schema.named(
        "SecurityRule",
        [
            Property("id", .name(1), "Names the rule in its list; its place unless said."),
            Property(
                "match", .map(.array(.string())),
                "What it lets pass, as in a manifest: protocol, port, icmp, and one of network, group, addressGroup."),
        ])
    private static let translation = Schema.named(
        "TranslationRule",
        [
            Property("id", .name(1), "Names the rule in its router; its place unless said."),
            Property(
                "action",
                .string(
                    pattern:
                        "^((dnat|snat) [0-9A-Fa-f.:]+(-[0-9A-Fa-f.:]+)?|masquerade)( port [0-9]{1,5}(-[0-9]{1,5})?)?$|^accept$"
                ),
                required: true, "What happens: dnat ADDRESS [port PORT], snat ADDRESS [port PORTS], masquerade, accept."
            ),
            Property(
                "match", .map(.array(.string())),
                "Which connections, as in a manifest: field and values, `not` before a field that is inverted."),
        ])
    private static let floating = Schema.named(
        "FloatingAddress",
        [
            Property("address", .string(), required: true, "The address that others see."),
            Property("target", .string(), required: true, "The machine's own."),
            Property(
                "port", .name(1),
                "The router's port towards those others; the one whose network holds the address unless said."),
        ])

    private static let route = Schema.named(
        "Route",
        [
            Property("to", .string(), required: true, "Destinations."),
            Property("from", .string(), "Sources; all unless said."),
            Property("weight", .integer(0...65_535), "Lower is preferred; 100 unless said."),
            Property("via", .string(), "The neighbor that it leads to."),
            Property("port", .string(), "The port that it leads out of, by its own name."),
            Property("type", .string(values: ["blackhole", "reject"]), "Where it leads nowhere."),
        ])
    private static let trunk = Schema.named(
        "Trunk",
        [
            Property("vlans", .array(.integer(1...4094)), "VLANs that may pass; all unless said."),
            Property("native", .integer(0...4094), "The VLAN of untagged frames; they are dropped unless said."),
        ])

    static func page(_ kind: ObjectKey.Kind) -> Schema {
        .named(
            "\(kind.rawValue.prefix(1).uppercased())\(kind.rawValue.dropFirst())Page",
            [
                Property("revision", revision, required: true, "The revision of the topology."),
                Property("items", .array(object(kind)), required: true, "In order of name."),
                Property("next", .string(), "Where the next page goes on; none: this was the last."),
            ])
    }

    static let wait = Schema.named(
        "Wait",
        [
            Property("revision", revision, required: true, "The revision."),
            Property("applied", .array(.string()), required: true, "Nodes that forward by it."),
            Property("lagging", .array(.string()), required: true, "Nodes that are up and did not do so in time."),
            Property("unreachable", .array(.string()), required: true, "Nodes that can't be reached."),
        ])
    static let change = Schema.named(
        "Change",
        [
            Property("revision", revision, required: true, "The revision of the topology after it."),
            Property("wait", wait, "Who forwards by it, if that was waited for."),
        ])

    private static func reference(_ extra: [Property]) -> [Property] {
        [
            Property("kind", .string(values: ObjectKey.Kind.allCases.map(\.rawValue)), required: true, "Its kind."),
            Property("name", .string(), required: true, "Its name."),
        ] + extra
    }
    static let transaction = Schema.named(
        "Transaction",
        [
            Property(
                "preconditions",
                .array(
                    .named(
                        "Precondition",
                        reference([
                            Property("revision", revision, required: true, "The revision that it must have; 0: none.")
                        ]))), "What must hold."),
            Property(
                "operations",
                .array(
                    .named(
                        "Operation",
                        reference([
                            Property("action", .string(values: ["put", "delete"]), required: true, "What to do."),
                            Property("cascade", .boolean, "Of a deletion: also what can't be without it."),
                            Property("bridge", object(.bridge), "The bridge to put."),
                            Property("router", object(.router), "The router to put."),
                            Property("port", object(.port), "The port to put."),
                            Property("host", object(.host), "The host to put."),
                            Property("zone", object(.zone), "The zone to put."),
                            Property("chain", object(.chain), "The chain to put."),
                            Property("portGroup", object(.portGroup), "The port group to put."),
                            Property("addressGroup", object(.addressGroup), "The address group to put."),
                            Property("securityGroup", object(.securityGroup), "The security group to put."),
                            Property("pool", object(.pool), "The pool to put."),
                            Property("mirror", object(.mirror), "The mirror to put."),
                            Property("tenant", object(.tenant), "The settings of a tenant to put."),
                        ]))), required: true, "What to do, in order: all of it, or nothing."),
        ])

    static let plan = Schema.named(
        "Plan",
        [
            Property(
                "items",
                .array(
                    .named(
                        "PlanItem",
                        reference([
                            Property(
                                "action", .string(values: ["create", "update", "delete"]), required: true,
                                "What happens."),
                            Property("changes", .array(.string()), required: true, "What is different, in words."),
                        ]))), required: true, "What happens, in order."),
            Property(
                "revision", revision, required: true, "The revision of the topology after it, or of now in a dry run."),
            Property("applied", .boolean, required: true, "Whether it was done."),
            Property("wait", wait, "Who forwards by it, if that was waited for."),
            Property("note", .string(), "What in the manifest counted for nothing."),
        ])

    static let problem = Schema.named(
        "Problem",
        [
            Property("type", .string(format: "uri"), required: true, "Names the kind of problem."),
            Property("title", .string(), required: true, "The kind in words."),
            Property("status", .integer(400...599), required: true, "The HTTP status."),
            Property("detail", .string(), required: true, "What happened this time."),
            Property(
                "problems",
                .array(
                    .object([
                        Property("object", .string(), required: true, "Which object."),
                        Property("reason", .string(), required: true, "What is wrong with it."),
                        Property("remedy", .string(), required: true, "What to do."),
                    ])), "What is wrong with which object."),
        ])

    static let tokenRequest = Schema.named(
        "TokenRequest",
        [
            Property("seconds", .integer(60...604_800), "Seconds until it ends; an hour unless said."),
            Property(
                "role", .string(values: ["auto", "voter", "learner"]),
                "What the node becomes; a voter while there are few."),
        ])
    static let token = Schema.named(
        "Token",
        [
            Property("id", .string(), required: true, "Names the token; no secret."),
            Property("token", .string(), "What the node that joins is given. Told once."),
            Property("expires", time, required: true, "When it ends."),
            Property("role", .string(values: ["auto", "voter", "learner"]), required: true, "What the node becomes."),
            Property("usedBy", .string(), "The node that used it."),
        ])
    static let joinRequest = Schema.named(
        "JoinRequest",
        [
            Property("token", .string(), required: true, "The token's id."),
            Property("secret", .hexadecimal, required: true, "The token's secret, hexadecimal."),
            Property("node", .hexadecimal, required: true, "The node's id, hexadecimal."),
            Property("name", .name(1), required: true, "Its name."),
            Property("peerAddress", .string(), required: true, "Where other nodes reach it."),
            Property("apiAddress", .string(), required: true, "Where clients reach it."),
            Property("tunnelAddress", .string(), "Its address for tunnels in the zone `default`."),
            Property("version", .string(), required: true, "Version of its program."),
            Property("certificateRequest", .string(), required: true, "A certificate request, PEM."),
        ])
    static let join = Schema.named(
        "Join",
        [
            Property("cluster", .string(), required: true, "The cluster's id."),
            Property("certificate", .string(), required: true, "Its certificate, PEM."),
            Property("authorities", .string(), required: true, "The authorities to trust, PEM."),
            Property("role", .string(values: ["voter", "learner"]), required: true, "What it becomes."),
            Property("peers", .map(.string()), required: true, "The nodes: id and peer address."),
        ])
    static let authorities = Schema.named(
        "Authorities",
        [
            Property("cluster", .string(), required: true, "The cluster's id."),
            Property(
                "authorities",
                .array(
                    .object([
                        Property("fingerprint", .string(), required: true, "SHA-256 of its certificate."),
                        Property(
                            "state", .string(values: ["trusted", "active", "retiring"]), required: true,
                            "What it is for."),
                        Property("expires", time, required: true, "When it ends."),
                        Property("certificate", .string(), required: true, "Its certificate, PEM."),
                    ])), required: true, "The authorities."),
        ])
    static let keyRequest = Schema.named(
        "KeyRequest",
        [
            Property("name", .name(1), required: true, "Its name."),
            Property("role", .role, required: true, "`viewer`, `tenant:NAME` or `operator`."),
            Property("days", .integer(1...3650), "Days until it ends; never unless said."),
        ])
    static let key = Schema.named(
        "Key",
        [
            Property("name", .string(), required: true, "Its name."),
            Property("role", .string(), required: true, "What it allows."),
            Property("created", time, required: true, "When it was made."),
            Property("expires", time, "When it ends; none: never."),
            Property("key", .string(), "What goes behind `Authorization: Bearer`. Told once."),
        ])
    static let clientRequest = Schema.named(
        "ClientCertificateRequest",
        [
            Property("name", .name(1), required: true, "Whose it is."),
            Property("role", .role, required: true, "`viewer`, `tenant:NAME` or `operator`."),
            Property("days", .integer(1...825), "Days until it ends; 365 unless said."),
            Property("certificateRequest", .string(), required: true, "A certificate request, PEM."),
        ])
    static let client = Schema.named(
        "ClientCertificate",
        [
            Property("certificate", .string(), required: true, "The certificate, PEM."),
            Property("authorities", .string(), required: true, "The authorities to trust, PEM."),
        ])

    static let node = Schema.named(
        "Node",
        [
            Property("name", .string(), required: true, "Its name."),
            Property("id", .string(), required: true, "Its id."),
            Property(
                "role", .string(values: ["voter", "learner", "joining", "leaving", "none"]), required: true,
                "What it is in the agreement."),
            Property("wanted", .string(values: ["voter", "learner"]), required: true, "What it is to be."),
            Property("isLeader", .boolean, required: true, "Whether it leads."),
            Property("status", .string(values: ["up", "down", "unknown"]), required: true, "How it is."),
            Property("peerAddress", .string(), required: true, "Where other nodes reach it."),
            Property("apiAddress", .string(), required: true, "Where clients reach it."),
            Property("version", .string(), required: true, "Version of its program."),
            Property("matchIndex", revision, "How far its log is the leader's, if the leader answers."),
            Property("lastContactSeconds", .number, "Since the leader heard of it, if the leader answers."),
            Property(
                "gossip", .string(values: ["alive", "suspect", "dead", "left"]),
                "How the node that answers hears it by gossip; nothing of itself."),
            Property("gossipSeconds", .number, "Since when that is so."),
            Property("replication", .string(), "How replication to it goes, if the leader answers."),
            Property("problem", .string(), "Why the node that answers does not reach it."),
            Property("certificateExpires", .string(), required: true, "When its certificate ends."),
        ])
    static let cluster = Schema.named(
        "Cluster",
        [
            Property("cluster", .string(), required: true, "Its id."),
            Property("name", .string(), required: true, "Its name."),
            Property("node", .string(), required: true, "The node that answers."),
            Property("leader", .string(), "The leader's name."),
            Property("term", revision, required: true, "The term of the agreement."),
            Property("lastIndex", revision, required: true, "The last entry of this node's log."),
            Property("firstIndex", revision, required: true, "The first entry that the log still has."),
            Property("commitIndex", revision, required: true, "Entries up to here are agreed on."),
            Property("appliedIndex", revision, required: true, "The last entry in this node's state."),
            Property("revision", revision, required: true, "The revision of the topology."),
            Property("digest", .string(), required: true, "The sum of this node's state."),
            Property("isChanging", .boolean, required: true, "Whether voters are changing."),
            Property("failureTolerance", .integer(0...1000), required: true, "How many voters may fail."),
            Property("writeMedianMilliseconds", .number, "Median of the latest writes to the log."),
            Property("writeP99Milliseconds", .number, "Their 99th percentile."),
            Property("leaderlessSeconds", .number, "Since a leader was heard of, when there is none."),
            Property("droppedFrames", revision, required: true, "Frames to other nodes that were dropped."),
            Property("refusedConnections", revision, required: true, "Connections that were refused or turned away."),
            Property("refusals", .array(.string()), required: true, "Why connections were refused lately."),
            Property("alarms", .array(.string()), required: true, "What an operator should look at."),
            Property("nodes", .array(node), required: true, "The nodes, by name."),
        ])
}
