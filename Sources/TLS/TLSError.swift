// SPDX-License-Identifier: Apache-2.0
import COpenSSL

/// What OpenSSL refused.
public enum TLSError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The other side's certificate is not one that we take; the text is OpenSSL's reason.
    case untrusted(String)
    /// The other side did not take ours, or something else that we said; the text is the alert.
    case refused(String)
    /// What came is not TLS, or not of a version that we speak.
    case protocolViolation(String)
    /// The other side ended the connection.
    case closed
    /// The handshake took too long.
    case timedOut
    /// Bytes that are no key, certificate or request.
    case malformed(String)
    /// OpenSSL could not do what it always can.
    case library(String)

    /// What happened.
    public var description: String {
        switch self {
        case .untrusted(let reason): "the certificate of the other side is not taken: \(reason)"
        case .refused(let alert): "the other side refused: \(alert)"
        case .protocolViolation(let reason): "not a TLS 1.3 conversation: \(reason)"
        case .closed: "the other side closed the connection"
        case .timedOut: "the TLS handshake took too long"
        case .malformed(let what): "malformed \(what)"
        case .library(let reason): "OpenSSL: \(reason)"
        }
    }

    /// The oldest error that this thread has pending; clears them all.
    static func pending() -> (code: UInt, text: String) {
        let code = ERR_get_error()
        ERR_clear_error()
        guard code != 0 else { return (0, "no reason given") }
        guard let text = ERR_reason_error_string(code) else { return (code, "error \(String(code, radix: 16))") }
        return (code, String(cString: text))
    }

    static func library() -> TLSError { .library(pending().text) }
}
