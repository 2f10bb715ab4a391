// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// How a session with a router outside is.
public struct PeerStatus: Sendable, Equatable {
    /// The peer's address.
    public var address: String
    /// Its system.
    public var system: UInt32
    /// `established`, or how far it came: `idle`, `connect`, `active`, `opensent`, `openconfirm`; `down` of one that is switched
    /// off.
    public var state: String
    /// Since when, seconds of the Unix epoch; `nil`: that is not known.
    public var since: Int64?
    /// Routes that it sends.
    public var received = 0
    /// Those of them that are taken.
    public var accepted = 0
    /// Announcements that it is told.
    public var announced = 0
    /// Why the session is not there, or what ended the last one.
    public var problem: String?
    /// `up` or `down`: whether BFD sees it; `nil` where that is not asked.
    public var liveness: String?

    /// A peer of which nothing is known.
    public init(_ peer: BGPPeer, state: String = "down") {
        address = peer.address.description
        system = peer.system
        self.state = state
    }
}

extension PeerStatus {
    /// Reads what BIRD tells of its protocols, for each peer of a plan; see `show protocols all`.
    static func read(_ lines: [String], _ peers: [BGPPeer]) -> [PeerStatus] {
        var list = peers.map { PeerStatus($0) }
        var place: Int?
        for line in lines {
            let words = line.split(separator: " ").map(String.init)
            if let first = words.first, !line.hasPrefix(" "), words.count >= 5 {
                place = peers.indices.first { daemonName(of: peers[$0]) == first }
                if let place {
                    list[place].since = Int64(words[4].prefix { $0 != "." })
                    list[place].state = words.dropFirst(5).first?.lowercased() ?? words[3]
                }
                continue
            }
            guard let place, let colon = line.firstIndex(of: ":") else { continue }
            let name = String(line[..<colon].drop { $0 == " " })
            let value = String(line[line.index(after: colon)...].drop { $0 == " " })
            list[place].note(name, value)
        }
        return list
    }

    private mutating func note(_ name: String, _ value: String) {
        switch name {
        case "BGP state": state = value.lowercased()
        case "Last error": problem = value
        case "Routes":
            for part in value.split(separator: ",") {
                let words = part.split(separator: " ")
                guard words.count == 2, let count = Int(words[0]) else { continue }
                switch words[1] {
                case "imported":
                    accepted += count
                    received += count
                case "filtered": received += count
                case "exported": announced += count
                default: break
                }
            }
        default: break
        }
    }

    /// Takes note of what BIRD tells of BFD; see `show bfd sessions`.
    static func read(liveness lines: [String], into list: inout [PeerStatus]) {
        for line in lines {
            let words = line.split(separator: " ").map(String.init)
            guard words.count >= 3 else { continue }
            for place in list.indices where list[place].address == words[0] {
                list[place].liveness = words[2].lowercased()
            }
        }
    }
}
