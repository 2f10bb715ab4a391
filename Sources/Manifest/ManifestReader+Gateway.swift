// SPDX-License-Identifier: Apache-2.0
import Topology
import Yams

/// What routers say to others outside.
extension ManifestReader {
    /// `bgp` of a router.
    mutating func readSpeaker(_ node: Node, _ path: DevicePath) -> BGPSpeaker? {
        let object = "\(path) bgp"
        let (fields, nodes) = readFields(node, object, BGPSpeaker.fieldNames)
        yaml.note(object, at: node)
        do throws(RuleMistake) { return try BGPSpeaker(reading: fields) } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }

    /// `vxlan` of a port.
    mutating func readVXLAN(_ node: Node, _ port: String) -> VXLANEnd? {
        let object = "\(port) vxlan"
        let (fields, nodes) = readFields(node, object, VXLANEnd.fieldNames)
        yaml.note(object, at: node)
        do throws(RuleMistake) { return try VXLANEnd(reading: fields) } catch {
            yaml.mistake(nodes[error.field] ?? node, object, "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }

    /// `peers` of a port.
    mutating func readPeers(_ node: Node, _ port: PortPath) -> [BGPPeer] {
        var peers: [BGPPeer] = []
        for (place, item) in yaml.items(node).enumerated() {
            let object = "\(port) peers \(place + 1)"
            let (fields, nodes) = readFields(item, object, BGPPeer.fieldNames)
            do throws(RuleMistake) {
                let peer = try BGPPeer(reading: fields)
                yaml.note("\(port) peer \(peer.address)", at: item)
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

    func with(snippet: String) -> Uplink {
        var uplink = self
        uplink.snippet = snippet
        return uplink
    }
}
