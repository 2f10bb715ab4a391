// SPDX-License-Identifier: Apache-2.0
import Topology
import Yams

/// What routers say to others outside.
extension ManifestReader {
    /// `bgp` of a router.
    mutating func readSpeaker(_ node: Node, _ path: DevicePath) -> BGPSpeaker? {
        readSaid(node, "\(path) bgp", BGPSpeaker.fieldNames) { fields throws(RuleMistake) in
            try BGPSpeaker(reading: fields)
        }
    }

    /// `daemon` of a port.
    mutating func readDaemon(_ node: Node, _ port: String) -> Uplink.Daemon? {
        guard let text = yaml.text(node, port, "daemon") else { return nil }
        if let daemon = Uplink.Daemon(rawValue: text) { return daemon }
        yaml.mistake(node, port, "daemon \"\(text)\" is not known", "use \(Uplink.Daemon.names)")
        return nil
    }

    /// `vxlan` of a port.
    mutating func readVXLAN(_ node: Node, _ port: String) -> VXLANEnd? {
        readSaid(node, "\(port) vxlan", VXLANEnd.fieldNames) { fields throws(RuleMistake) in
            try VXLANEnd(reading: fields)
        }
    }

    /// `peers` of a port, or of a host.
    mutating func readPeers(_ node: Node, _ speaker: String) -> [BGPPeer] {
        var peers: [BGPPeer] = []
        for (place, item) in yaml.items(node).enumerated() {
            let object = speaker + "peers \(place + 1)"
            let (fields, nodes) = readFields(item, object, BGPPeer.fieldNames)
            do throws(RuleMistake) {
                let peer = try BGPPeer(reading: fields)
                yaml.note(speaker + "peer \(peer.address)", at: item)
                peers.append(peer)
            } catch {
                yaml.mistake(nodes[error.field] ?? item, object, "\(error.field) \(error.reason)", error.remedy)
            }
        }
        return peers
    }
}

extension Uplink {
    func with(peers: [BGPPeer]) -> Uplink {
        var uplink = self
        uplink.peers = peers
        return uplink
    }

    func with(daemon: Daemon) -> Uplink {
        var uplink = self
        uplink.daemon = daemon
        return uplink
    }

    func with(snippet: String) -> Uplink {
        var uplink = self
        uplink.snippet = snippet
        return uplink
    }
}
