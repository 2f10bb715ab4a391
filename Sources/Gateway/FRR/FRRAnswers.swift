// SPDX-License-Identifier: Apache-2.0
import Foundation
import Topology
import Wire

/// Reads what FRRouting's daemon of BGP tells in JSON. What is not as expected is passed over.
enum FRRAnswers {
    private typealias Object = [String: Any]

    private static func object(_ bytes: some Collection<UInt8>) -> Object? {
        (try? JSONSerialization.jsonObject(with: Data(bytes))) as? Object
    }

    // MARK: - Costs

    /// What destinations cost, and the version of the table, see `show bgp ipv4 unicast version 1 json`: each destination has a line
    /// of its own.
    static func costs(_ answer: [UInt8]) -> (costs: [Prefix: UInt32], version: UInt32?) {
        let (quote, bracket) = (UInt8(ascii: "\""), UInt8(ascii: "["))
        var found: [Prefix: UInt32] = [:]
        var version: UInt32?
        for line in answer.split(separator: 10) {
            guard let start = line.firstIndex(of: bracket) else {
                let words = String(decoding: line, as: UTF8.self).split(separator: ":")
                if words.count == 2, words[0].contains("\"tableVersion\"") {
                    version = UInt32(words[1].filter(\.isNumber))
                }
                continue
            }
            guard let last = line[..<start].lastIndex(of: quote), let first = line[..<last].lastIndex(of: quote),
                let prefix = try? Prefix(parsing: String(decoding: line[(first + 1)..<last], as: UTF8.self)),
                let end = line.lastIndex(of: UInt8(ascii: "]")), end > start
            else { continue }
            let paths = (try? JSONSerialization.jsonObject(with: Data(line[start...end]))) as? [Object] ?? []
            guard let best = paths.first(where: { $0["bestpath"] as? Bool == true }) else { continue }
            // Confederations count nothing, a set counts one (RFC 5065 section 5.3, RFC 4271 section 9.1.2.2).
            let path = best["path"] as? String ?? ""
            found[prefix] = cost(best, systems: path.split(separator: " ").filter { !$0.hasPrefix("(") }.count)
        }
        return (found, version)
    }

    private static func cost(_ path: Object, systems: Int) -> UInt32 {
        func number(_ name: String) -> UInt32? { (path[name] as? Int).map { UInt32(clamping: $0) } }
        return routeCost(
            preference: number("locPrf") ?? 100, systems: UInt32(clamping: systems),
            metric: number("metric") ?? 0)
    }

    // MARK: - Peers

    /// How sessions are, see `show bgp neighbors json`.
    static func peers(_ answer: [UInt8], _ peers: [BGPPeer]) -> [PeerStatus] {
        let all = object(answer) ?? [:]
        return peers.map { peer in
            var status = PeerStatus(peer)
            guard let said = all[peer.address.description] as? Object else { return status }
            status.state = (said["bgpState"] as? String)?.lowercased() ?? status.state
            let isThere = status.state == "established"
            if isThere { status.since = (said["bgpTimerUpEstablishedEpoch"] as? NSNumber)?.int64Value }
            for case let family as Object in (said["addressFamilyInfo"] as? Object ?? [:]).values {
                status.accepted += family["acceptedPrefixCounter"] as? Int ?? 0
                status.announced += family["sentPrefixCounter"] as? Int ?? 0
            }
            status.received = status.accepted
            if let liveness = (said["peerBfdInfo"] as? Object)?["status"] as? String {
                status.liveness = liveness.lowercased()
            }
            if !isThere { status.problem = problem(said) }
            return status
        }
    }

    /// How long sessions are there, milliseconds, by address, see `show bgp l2vpn evpn summary json`.
    static func established(_ answer: [UInt8]) -> [String: Int] {
        let all = object(answer)
        let peers = all?["peers"] as? Object ?? (all?["l2VpnEvpn"] as? Object)?["peers"] as? Object ?? [:]
        return peers.compactMapValues { value in
            guard let said = value as? Object, said["state"] as? String == "Established" else { return nil }
            return said["peerUptimeMsec"] as? Int
        }
    }

    /// Why a session is not there.
    private static func problem(_ said: Object) -> String? {
        if said["prefixesConfigExceedMax"] != nil { return "it sent more routes than its limit" }
        let due = said["lastResetDueTo"] as? String
        let reason = said["lastNotificationReason"] as? String ?? said["lastShutdownDescription"] as? String
        let words = [due, reason].compactMap { $0 }.filter { !$0.isEmpty }
        return words.isEmpty ? nil : words.joined(separator: ": ")
    }

    /// How many routes a peer sends, see `show bgp ipv4 unicast neighbors A prefix-counts json`.
    static func received(_ answer: [UInt8]) -> Int? {
        (object(answer)?["ribTableWalkCounters"] as? Object)?["Adj-in"] as? Int
    }
}
