// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire
import Yams

/// How a host is reached at addresses of none of its cards: a file of the host's own.
extension ManifestReader {
    /// Reads the text of such a file.
    ///
    /// - Parameter file: how to call it in errors.
    public static func readUnderlay(_ text: String, file: String) throws(ManifestError) -> UnderlayPlan {
        var reader = ManifestReader()
        var plan: UnderlayPlan?
        if let root = reader.yaml.parse(text) { plan = reader.readUnderlay(root) }
        for problem in plan?.problems ?? [] { reader.yaml.mistake(problem) }
        guard let plan, reader.yaml.mistakes.isEmpty else {
            let sorted = reader.yaml.mistakes.sorted { ($0.line, $0.column) < ($1.line, $1.column) }
            throw ManifestError(file: file, items: Array(sorted.prefix(ManifestLimits.mistakes)))
        }
        return plan
    }

    private static let ofSpeaker = ["as", "id", "maxPaths"]

    private mutating func readUnderlay(_ root: Node) -> UnderlayPlan? {
        let known = ["loopback"] + Self.ofSpeaker + ["peers", "snippet"]
        let fields = Dictionary(
            yaml.entries(root, "underlay", known: known).map { ($0.key, $0.value) }, uniquingKeysWith: { a, _ in a })
        var loopbacks: [IPAddress] = []
        for item in yaml.items(fields["loopback"]) {
            if let address = yaml.address(item, "underlay", "loopback") { loopbacks.append(address) }
        }
        var said: [(name: String, values: [String])] = []
        for name in Self.ofSpeaker {
            guard let node = fields[name], let text = yaml.text(node, "underlay", name) else { continue }
            said.append((name, [text]))
        }
        let peers = fields["peers"].map { readPeers($0, "") } ?? []
        let snippet = fields["snippet"].flatMap { yaml.text($0, "underlay", "snippet") }
        do throws(RuleMistake) {
            var plan = UnderlayPlan(loopbacks, speaker: try BGPSpeaker(reading: said), peers: peers)
            plan.snippet = snippet
            return yaml.mistakes.isEmpty ? plan : nil
        } catch {
            yaml.mistake(fields[error.field] ?? root, "underlay", "\(error.field) \(error.reason)", error.remedy)
            return nil
        }
    }
}
