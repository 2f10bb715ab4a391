// SPDX-License-Identifier: Apache-2.0

/// What the view of the journal shows of a row, as SQL: SQLite has no function that makes a number of a byte.
enum JournalView {
    private static func digit(_ text: String, _ at: Int) -> String {
        "(instr('0123456789ABCDEF', substr(\(text), \(at), 1)) - 1)"
    }
    /// A number of so many bytes that begin at a byte, counted from 1.
    static func number(_ at: Int, _ count: Int = 1) -> String {
        let hex = "hex(substr(row, \(at), \(count)))"
        return (1...count * 2).map { "(\(digit(hex, $0)) << \(4 * (count * 2 - $0)))" }.joined(separator: " + ")
    }
    private static func v4(_ at: Int) -> String {
        "printf('%d.%d.%d.%d', \((0..<4).map { number(at + $0) }.joined(separator: ", ")))"
    }
    private static func v6(_ at: Int) -> String {
        let parts = (0..<8).map { "hex(substr(row, \(at + 2 * $0), 2))" }
        return "lower(" + parts.joined(separator: " || ':' || ") + ")"
    }

    private static let kind = "(\(number(1)) & 15)"
    private static let isV6 = "(\(number(1)) & 128)"

    /// Columns: kind, protocol, source, source port, destination, destination port, zone, when it began, when it was written.
    static let select: String = {
        // Connections and translations: form, protocol, zone, then the two sides.
        let flow = "\(kind) IN (1, 2)"
        return """
            SELECT CASE \(kind) WHEN 1 THEN 'connection' WHEN 2 THEN 'translation' WHEN 3 THEN 'station' \
            WHEN 4 THEN 'neighbor' WHEN 5 THEN 'affinity' WHEN 6 THEN 'lease' WHEN 7 THEN 'health' WHEN 8 THEN 'group' \
            WHEN 9 THEN 'route' END AS kind, \
            CASE WHEN \(flow) THEN \(number(2)) END AS protocol, \
            CASE WHEN \(flow) THEN CASE WHEN \(isV6) THEN \(v6(11)) ELSE \(v4(11)) END \
            WHEN \(kind) = 3 THEN lower(hex(substr(row, 2, 6))) \
            WHEN \(kind) = 9 THEN CASE WHEN \(isV6) THEN \(v6(3)) ELSE \(v4(3)) END || '/' || (\(number(2))) \
            WHEN \(kind) IN (4, 5, 6, 8) THEN CASE WHEN \(isV6) THEN \(v6(2)) ELSE \(v4(2)) END END AS source, \
            CASE WHEN \(flow) THEN CASE WHEN \(isV6) THEN \(number(43, 2)) ELSE \(number(19, 2)) END END AS sourcePort, \
            CASE WHEN \(flow) THEN CASE WHEN \(isV6) THEN \(v6(27)) ELSE \(v4(15)) END END AS destination, \
            CASE WHEN \(flow) THEN CASE WHEN \(isV6) THEN \(number(45, 2)) ELSE \(number(21, 2)) END END \
            AS destinationPort, \
            CASE WHEN \(flow) THEN lower(hex(substr(row, 3, 8))) END AS zone, \
            datetime((at + (SELECT offset FROM clock)) / 1000, 'unixepoch') AS written
            """
    }()
}
