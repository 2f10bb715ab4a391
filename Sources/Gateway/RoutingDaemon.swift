// SPDX-License-Identifier: Apache-2.0
import Linux
import Topology
import Wire

/// A routing daemon of others that serves one uplink in a namespace of its own. What it learns is in the kernel's main table there,
/// and so is, in the table that it names, what it is to announce.
protocol RoutingDaemon {
    /// The kernel's table of what is to be announced.
    static var announcedTable: UInt32 { get }

    /// Whether it was started and did not end.
    var isRunning: Bool { get }

    /// Looks whether it ended by itself; how, once.
    mutating func ended() -> Int32?

    /// Configures it for a plan, whether it runs or will be started; what of the plan is left out, `nil`: nothing.
    ///
    /// - Throws: ``DaemonBusy`` when that is to be tried again soon, anything else when it can't be done.
    mutating func configure(_ plan: UplinkPlan) throws -> String?

    /// Starts it with what it is configured for. It ends with this process.
    ///
    /// - Parameters:
    ///   - isRecovering: whether it takes over what one before it left in the kernel.
    ///   - log: takes its words.
    /// - Returns: what of the plan is left out, `nil`: nothing else than was left out before.
    mutating func start(in namespace: NetworkNamespace, isRecovering: Bool, log: Int32) throws -> String?

    /// Ends it, in good order if that does not take long.
    mutating func stop()

    /// Brings what destinations cost up to date, where the kernel says nothing of it.
    ///
    /// - Parameter isUrgent: whether something waits for it; otherwise it may be looked at later.
    /// - Returns: what costs otherwise than before; `nil`: that is not known now.
    mutating func followCosts(isUrgent: Bool, now: UInt64) -> Set<Prefix>?

    /// What a destination costs as of then; `nil`: that is what the kernel says.
    func cost(of prefix: Prefix) -> UInt32?

    /// Takes its files away.
    func removeFiles()
}

/// That a daemon can't be told now.
struct DaemonBusy: Error {}

/// What is wrong with an uplink's daemon.
struct GatewayError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// What is the same whichever daemon it is.
enum Routing {
    /// What routes cost of which nobody says it: more than any that BGP brings.
    static let unknownCost: UInt32 = 1 << 31
    /// How long neighbors wait for a daemon that begins anew, seconds: longer than it takes, and no longer than traffic may go to
    /// one that does not come back.
    static let restartSeconds = 5
}

/// What a route costs, comparable among all daemons of a router: how much it is preferred, how many systems are on the way, what the
/// neighbor says of it (RFC 4271 section 9.1).
func routeCost(preference: UInt32, systems: UInt32, metric: UInt32) -> UInt32 {
    (4095 - min(preference, 4095)) * 524_288 + min(systems, 127) * 4096 + min(metric, 4095)
}

/// The name of a peer in a daemon's configuration: its own goes on as long as it is there, whatever becomes of others.
func daemonName(of peer: BGPPeer) -> String {
    "peer_" + String(peer.address.description.map { $0.isHexDigit ? $0 : "_" })
}

extension UplinkPlan {
    /// The daemon that it asks for.
    ///
    /// - Parameters:
    ///   - files: what the names of its files begin with.
    ///   - farewell: how it ends when this process is gone; `nil`: at once.
    func makeDaemon(files: String, farewell: Farewell?) -> any RoutingDaemon {
        switch uplink.daemon {
        case .bird: BirdDaemon(files: files, farewell: farewell)
        case .frr: FRRDaemon(files: files, farewell: farewell)
        }
    }

    /// How its sessions are, as the daemon tells.
    func peers(files: String) throws -> [PeerStatus] {
        switch uplink.daemon {
        case .bird: try BirdDaemon.peers(of: self, files: files)
        case .frr: try FRRDaemon.peers(of: self, files: files)
        }
    }

    /// The kernel's table of what its daemon is to announce.
    var announcedTable: UInt32 {
        switch uplink.daemon {
        case .bird: BirdDaemon.announcedTable
        case .frr: FRRDaemon.announcedTable
        }
    }

    /// The port's address in the peer's network, or any of the family; for a peer of the link alone that of the link.
    func own(toward peer: BGPPeer) -> IPAddress? {
        if peer.address.v6?.isLinkLocal == true { return IPAddress(IPv6Address.linkLocal(for: mac)) }
        let same = addresses.filter { $0.address.family == peer.address.family }
        return (same.first { $0.network.contains(peer.address) } ?? same.first)?.address
    }
}
