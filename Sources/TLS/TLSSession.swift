// SPDX-License-Identifier: Apache-2.0
import COpenSSL

/// One TLS conversation, without a socket: bytes of the wire and bytes of the application go in and come out. Belongs to
/// one thread at a time.
public final class TLSSession {
    /// Which side we are.
    public enum Role: Sendable {
        /// We began.
        case client
        /// The other side began.
        case server
    }

    private let handle: OpaquePointer
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer
    private let context: TLSContext

    /// A conversation that has not begun.
    ///
    /// - Parameters:
    ///   - host: the DNS name or address that the server's certificate must be for; `nil` when its other names are checked.
    public init(_ context: TLSContext, _ role: Role, host: String? = nil) throws(TLSError) {
        guard let session = SSL_new(context.handle) else { throw .library() }
        guard let incoming = BIO_new(BIO_s_mem()), let outgoing = BIO_new(BIO_s_mem()) else {
            SSL_free(session)
            throw .library()
        }
        SSL_set_bio(session, incoming, outgoing)
        (handle, self.incoming, self.outgoing, self.context) = (session, incoming, outgoing, context)
        switch role {
        case .client:
            SSL_set_connect_state(session)
            guard let host else { return }
            let parameters = SSL_get0_param(session)
            if X509_VERIFY_PARAM_set1_ip_asc(parameters, host) != 1 {
                ERR_clear_error()
                guard SSL_set1_host(session, host) == 1, cossl_set_server_name(session, host) == 1 else {
                    throw .library()
                }
            }
        case .server: SSL_set_accept_state(session)
        }
    }

    deinit { SSL_free(handle) }

    /// Takes bytes that came by the wire.
    public func receive(_ bytes: UnsafeRawBufferPointer) throws(TLSError) {
        guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
        guard BIO_write(incoming, start, Int32(clamping: bytes.count)) == bytes.count else { throw .library() }
    }

    /// Goes on with the handshake; true when it is over.
    public func handshake() throws(TLSError) -> Bool {
        let result = SSL_do_handshake(handle)
        if result == 1 { return true }
        try check(result)
        return false
    }

    /// Reads what the other side said; `nil` when there is no more for now.
    ///
    /// - Throws: ``TLSError/closed`` when it will say no more.
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws(TLSError) -> Int? {
        let result = SSL_read(handle, buffer.baseAddress, Int32(clamping: buffer.count))
        if result > 0 { return Int(result) }
        try check(result)
        return nil
    }

    /// Says something. The handshake must be over.
    public func write(_ bytes: UnsafeRawBufferPointer) throws(TLSError) {
        var at = 0
        while at < bytes.count {
            let result = SSL_write(
                handle, bytes.baseAddress?.advanced(by: at), Int32(clamping: min(bytes.count - at, 1 << 20)))
            if result <= 0 {
                try check(result)
                // A memory BIO takes everything: what it does not take now it never will.
                throw .library("a write was not taken")
            }
            at += Int(result)
        }
    }

    /// Bytes that are to go out by the wire.
    public var pendingBytes: Int { cossl_pending(outgoing) }

    /// Takes bytes that are to go out.
    public func drain(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        Int(max(0, BIO_read(outgoing, buffer.baseAddress, Int32(clamping: buffer.count))))
    }

    /// Says that nothing more will be said.
    public func close() {
        SSL_shutdown(handle)
        ERR_clear_error()
    }

    /// The certificate that the other side showed.
    public var peer: Certificate? { SSL_get1_peer_certificate(handle).map { Certificate(owning: $0) } }

    private func check(_ result: Int32) throws(TLSError) {
        switch SSL_get_error(handle, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
            return
        case SSL_ERROR_ZERO_RETURN:
            throw .closed
        default:
            let (code, text) = TLSError.pending()
            let verification = SSL_get_verify_result(handle)
            if verification != Int(X509_V_OK), let reason = X509_verify_cert_error_string(verification) {
                throw .untrusted(String(cString: reason))
            }
            let reason = cossl_error_reason(code)
            if reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE { throw .untrusted("it showed none") }
            // Alerts of the other side have reasons of 1000 and more (ssl.h, SSL_AD_REASON_OFFSET).
            if reason >= SSL_AD_REASON_OFFSET { throw .refused(text) }
            throw code == 0 ? .closed : .protocolViolation(text)
        }
    }
}
