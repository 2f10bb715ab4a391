// SPDX-License-Identifier: Apache-2.0
import Wire

/// Figures in the text format that Prometheus reads (exposition format 0.0.4).
public struct MetricsText: Sendable {
    /// The content type.
    public static let type = "text/plain; version=0.0.4; charset=utf-8"

    /// What was written.
    public private(set) var text = ""

    /// Nothing.
    public init() {}

    /// One figure of a family.
    public struct Sample: Sendable {
        /// What tells it from the others, name and value.
        public var labels: [(String, String)]
        /// The figure.
        public var value: Double

        /// A figure.
        public init(_ value: some BinaryInteger, _ labels: (String, String)...) {
            self.init(Double(value), labels)
        }
        /// A figure.
        public init(_ value: Double, _ labels: [(String, String)] = []) {
            self.labels = labels
            self.value = value
        }
    }

    /// Writes what only grows while the node runs. Its name ends in `_total`.
    public mutating func counter(_ name: String, _ help: String, _ samples: [Sample]) {
        family(name, "counter", help, samples)
    }
    /// Writes what only grows while the node runs. Its name ends in `_total`.
    public mutating func counter(_ name: String, _ help: String, _ value: some BinaryInteger) {
        family(name, "counter", help, [Sample(value)])
    }
    /// Writes what goes up and down.
    public mutating func gauge(_ name: String, _ help: String, _ samples: [Sample]) {
        family(name, "gauge", help, samples)
    }
    /// Writes what goes up and down.
    public mutating func gauge(_ name: String, _ help: String, _ value: some BinaryInteger) {
        family(name, "gauge", help, [Sample(value)])
    }

    /// Writes how long something took. Its name ends in `_seconds`.
    public mutating func histogram(
        _ name: String, _ help: String, _ samples: [(labels: [(String, String)], counts: DurationCounts)]
    ) {
        if samples.isEmpty { return }
        head(name, "histogram", help)
        for (labels, durations) in samples {
            var below: UInt64 = 0
            for (bound, count) in zip(DurationCounts.bounds, durations.counts) {
                below &+= count
                line(name + "_bucket", labels + [("le", "\(Double(bound) / 1e9)")], Double(below))
            }
            line(name + "_bucket", labels + [("le", "+Inf")], Double(durations.count))
            line(name + "_sum", labels, Double(durations.sum) / 1e9)
            line(name + "_count", labels, Double(durations.count))
        }
    }

    private mutating func family(_ name: String, _ type: String, _ help: String, _ samples: [Sample]) {
        if samples.isEmpty { return }
        head(name, type, help)
        for sample in samples { line(name, sample.labels, sample.value) }
    }

    private mutating func head(_ name: String, _ type: String, _ help: String) {
        text += "# HELP \(name) \(escaped(help, quotes: false))\n# TYPE \(name) \(type)\n"
    }

    private mutating func line(_ name: String, _ labels: [(String, String)], _ value: Double) {
        text += name
        if !labels.isEmpty {
            let list = labels.map { "\($0.0)=\"\(escaped($0.1, quotes: true))\"" }
            text += "{\(list.joined(separator: ","))}"
        }
        // Whole numbers as such: they are exact up to 2^53.
        let isWhole = value == value.rounded() && value.magnitude < 9e15
        text += isWhole ? " \(Int64(value))\n" : " \(value)\n"
    }

    private func escaped(_ text: String, quotes: Bool) -> String {
        var out = ""
        for character in text {
            switch character {
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\"" where quotes: out += "\\\""
            default: out.append(character)
            }
        }
        return out
    }
}
