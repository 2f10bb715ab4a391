// SPDX-License-Identifier: Apache-2.0
import Linux

/// Seconds of the Unix epoch, by the wall.
func wallClock() -> Int64 { wallSeconds() }

/// Hexadecimal digits to bytes.
public func bytes(hexadecimal text: some StringProtocol) -> [UInt8]? {
    let digits = Array(text.utf8)
    guard digits.count % 2 == 0 else { return nil }
    var result: [UInt8] = []
    result.reserveCapacity(digits.count / 2)
    for index in stride(from: 0, to: digits.count, by: 2) {
        guard let high = Character(UnicodeScalar(digits[index])).hexDigitValue,
            let low = Character(UnicodeScalar(digits[index + 1])).hexDigitValue
        else { return nil }
        result.append(UInt8(high << 4 | low))
    }
    return result
}

/// A second of the Unix epoch in the form of RFC 3339, UTC.
public func rfc3339(_ seconds: Int64) -> String {
    let days = seconds >= 0 ? seconds / 86_400 : -((86_399 - seconds) / 86_400)
    let rest = seconds - days * 86_400
    // Civil date of a day count, proleptic Gregorian: eras of 400 years, years that begin in March.
    let shifted = days + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let month = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * month + 2) / 5 + 1
    let civilMonth = month < 10 ? month + 3 : month - 9
    let year = yearOfEra + era * 400 + (civilMonth <= 2 ? 1 : 0)
    func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return "\(year)-\(two(civilMonth))-\(two(day))T\(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60))Z"
}

/// A part of a URL with its `%41` made the bytes that they stand for; `nil` when that is not text.
func percentDecoded(_ text: some StringProtocol) -> String? {
    var out: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
        guard byte == UInt8(ascii: "%") else {
            out.append(byte)
            continue
        }
        guard rest.count >= 2, let pair = bytes(hexadecimal: String(decoding: rest.prefix(2), as: UTF8.self)) else {
            return nil
        }
        out += pair
        rest = rest.dropFirst(2)
    }
    return String(validating: out, as: UTF8.self)
}

/// A text as a part of a URL: all but letters, digits and `-._~/:` as `%41`.
public func percentEncoded(_ text: String) -> String {
    var out = ""
    for byte in text.utf8 {
        let isPlain =
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
            || "-._~/:".utf8.contains(byte)
        out += isPlain ? String(UnicodeScalar(byte)) : "%" + hexadecimalByte(byte)
    }
    return out
}

private func hexadecimalByte(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return byte < 16 ? "0" + digits : digits
}
