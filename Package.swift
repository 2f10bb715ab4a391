// swift-tools-version: 6.1
import Foundation
import PackageDescription

// The list of targets is the architecture: a target imports only targets on floors below its own.
// ARCHITECTURE.md tells what each floor is for.

/// Set by `make fuzz` to the path of libFuzzer: the rooms are then built with coverage, and the fuzz target is there.
let fuzzer = ProcessInfo.processInfo.environment["SELVAGE_FUZZER"]

let strict: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableExperimentalFeature("Lifetimes"),
    ] + (fuzzer == nil ? [] : [.unsafeFlags(["-sanitize=fuzzer", "-enable-testing"])])

/// A room of the floor plan.
func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

/// The tests of a room, in `Tests/<Room>Tests`.
func tests(_ name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: [.byName(name: name), "TestSupport"] + dependencies, exclude: exclude,
        swiftSettings: strict)
}

let package = Package(
    name: "selvage",
    products: [.executable(name: "selvage", targets: ["selvage"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // Floor 0: C that Swift cannot see.
        .target(name: "CLinux"),
        .systemLibrary(
            name: "CNetlink", pkgConfig: "libnl-genl-3.0", providers: [.apt(["libnl-3-dev", "libnl-genl-3-dev"])]),

        .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),

        // Floor 1: words of the wire, and the kernel's doors.
        room("Wire"),
        room("Linux", ["CLinux"]),
        room("Netlink", ["Wire", "Linux", "CNetlink"]),
        room("SQLite", ["CSQLite"]),
        room("TLS", ["COpenSSL", .product(name: "NIOCore", package: "swift-nio")]),

        // Floor 2: what tenants and operators draw.
        room("Topology", ["Wire", .product(name: "HashTreeCollections", package: "swift-collections")]),
        // ... and how a cluster agrees on it.
        room("Consensus"),
        // ... and how nodes tell each other of flows.
        room("Gossip", ["Wire", .product(name: "DequeModule", package: "swift-collections")]),

        // Floor 3: what happens to a packet; who carries it out; how a drawing is read.
        room(
            "Simulation",
            ["Wire", "Topology", .product(name: "HashTreeCollections", package: "swift-collections")]),
        room("Datapath", ["Wire", "Linux", "Netlink", "CLinux", "CNetlink"]),
        room(
            "Store",
            [
                "Wire", "Topology", "Consensus", "SQLite", "TLS", "Linux",
                .product(name: "HashTreeCollections", package: "swift-collections"),
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        room("Manifest", ["Wire", "Topology", .product(name: "Yams", package: "Yams")]),

        // Floor 4: what packets left behind, on all hosts.
        room("FlowState", ["Wire", "Simulation", "Gossip", "SQLite", "Linux", "TLS", "CLinux"]),

        // Floor 5: the forwarding engine.
        room(
            "Agent",
            [
                "Wire", "Topology", "Simulation", "FlowState", "Gossip", "Datapath", "Linux", "Netlink",
                .product(name: "DequeModule", package: "swift-collections"),
            ]),

        // ... and how members of pools are checked, from inside their network.
        room(
            "Names",
            [
                "Wire", "Simulation", "Linux", .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        room(
            "Health",
            [
                "Wire", "Topology", "Simulation", "Netlink", "TLS", "Linux", "CLinux",
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ]),

        // ... and how routers outside are spoken with.
        room("Gateway", ["Wire", "Topology", "Simulation", "Netlink", "Linux", "CLinux"]),

        // Floor 6: how the cluster is asked.
        room(
            "API",
            [
                "Wire", "Topology", "Manifest", "Consensus", "Store", "TLS", "Linux",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "Logging", package: "swift-log"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
            ]),

        // Floor 7: one node.
        room(
            "Node",
            [
                "Wire", "Topology", "Simulation", "FlowState", "Gossip", "Datapath", "Manifest", "Agent", "Consensus",
                "Health", "Names", "Gateway", "Store", "TLS", "API", "Linux", "Netlink", "CLinux",
                .product(name: "NIOCore", package: "swift-nio"),
            ]),

        // Floor 8: a whole cluster on one host.
        room(
            "Lab", ["Wire", "Topology", "Manifest", "API", "Node", "Linux", "Netlink", "CLinux"]),

        // Floor 9: the command.
        .executableTarget(
            name: "selvage",
            dependencies: [
                "Wire", "Topology", "Simulation", "Datapath", "Manifest", "Agent", "Consensus", "Store", "TLS", "API",
                "Node", "Lab", "Gateway", "Linux", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        // What tests share, and the tests, a target a room.
        .target(
            name: "TestSupport", dependencies: ["Wire", "Topology", "Manifest"], path: "Tests/TestSupport",
            swiftSettings: strict),
        .target(name: "CCount", path: "Tests/Bench/CCount"),
        .executableTarget(
            name: "selvage-bench",
            dependencies: [
                "Wire", "Topology", "Manifest", "Simulation", "FlowState", "Gossip", "Agent", "Consensus", "Store",
                "TLS",
                "Linux", "CLinux", "CCount", "TestSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Tests/Bench/Sources", swiftSettings: strict),
        tests("Wire"),
        tests("Topology", ["Wire"]),
        tests("Manifest", ["Wire", "Topology"]),
        tests("Simulation", ["Wire", "Topology"]),
        tests("Datapath", ["Wire", "Linux", "Netlink", "CLinux"]),
        tests("FlowState", ["Wire", "Simulation", "Gossip", "SQLite", "Linux", "CLinux", "TLS"]),
        tests("Agent", ["Wire", "Simulation", "FlowState", "Datapath"]),
        tests("Consensus", ["ClusterSimulation"]),
        tests("Gossip", ["Wire"]),
        tests("Health", ["Wire", "Topology", "Simulation"]),
        tests("Gateway", ["Wire", "Topology", "Simulation", "Manifest", "Netlink", "Linux", "CLinux"]),
        tests("Names", ["Wire", "Topology", "Simulation"]),
        tests(
            "Store", ["Consensus", "SQLite", "TLS", "Topology", .product(name: "NIOCore", package: "swift-nio")],
            exclude: ["Fixtures"]),
        tests(
            "TLS",
            [.product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOEmbedded", package: "swift-nio")]),

        // Whole clusters of pure parts in one process, with time, network and disks that a seed makes up.
        .target(
            name: "ClusterSimulation",
            dependencies: [
                "Wire", "Topology", "Consensus", "Gossip", "Simulation", "FlowState", "Datapath", "Agent",
                "TestSupport",
            ], path: "Tests/ClusterSimulation",
            swiftSettings: strict),
        .executableTarget(
            name: "selvage-sim",
            dependencies: [
                "ClusterSimulation", "Consensus", "FlowState", "Linux", "Simulation", "Wire",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Tests/Simulator", swiftSettings: strict),
    ]
)

if let fuzzer {
    package.targets.append(
        .executableTarget(
            name: "selvage-fuzz",
            dependencies: [
                "Wire", "Topology", "Simulation", "FlowState", "Gossip", "Netlink", "Datapath", "Manifest", "Agent",
                "Consensus", "Store",
                "TLS", "API", "Node", "TestSupport", .product(name: "NIOCore", package: "swift-nio"),
            ],
            path: "Tests/Fuzz", exclude: ["Corpus"],
            swiftSettings: [.swiftLanguageMode(.v5), .enableExperimentalFeature("Lifetimes")],
            linkerSettings: [.unsafeFlags([fuzzer, "-lstdc++"])]))
    package.targets.removeAll { $0.type == .test || $0.name == "selvage-bench" || $0.name == "selvage-sim" }
    package.products = []
}
