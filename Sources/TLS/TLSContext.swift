// SPDX-License-Identifier: Apache-2.0
import COpenSSL

/// Who we are and whom we trust, for any number of sessions.
///
/// A context does not change: whoever has a new certificate makes a new context for new sessions.
public final class TLSContext: @unchecked Sendable {  // OpenSSL guards it, and nobody changes it after init
    let handle: OpaquePointer

    /// What is asked of the other side's certificate.
    public enum Verification: Sendable {
        /// It must have one, and one of the authorities must have signed it.
        case required
        /// It may have none; if it has one, an authority must have signed it.
        case optional
        /// Nothing: whoever needs to know who answers checks the fingerprint.
        case none
    }

    /// Versions of TLS.
    public enum Version: Sendable {
        /// TLS 1.2, for others' servers.
        case tls12
        /// TLS 1.3.
        case tls13
    }

    /// A context.
    ///
    /// - Parameters:
    ///   - identity: the own certificate and its key; a client may have none.
    ///   - authorities: who may have signed the certificates of others.
    ///   - oldest: the oldest version that is spoken.
    public init(
        identity: (certificate: Certificate, key: PrivateKey)?, authorities: [Certificate], verification: Verification,
        oldest: Version = .tls13
    ) throws(TLSError) {
        guard let context = SSL_CTX_new(TLS_method()) else { throw .library() }
        handle = context
        guard cossl_use_version(context, oldest == .tls12 ? TLS1_2_VERSION : TLS1_3_VERSION) == 1 else {
            throw .library()
        }
        cossl_release_buffers(context)
        // Sessions are not resumed: a certificate that was revoked must not live on in a ticket.
        SSL_CTX_set_num_tickets(context, 0)
        cossl_use_no_tickets(context)
        if let identity {
            guard SSL_CTX_use_certificate(context, identity.certificate.handle) == 1,
                SSL_CTX_use_PrivateKey(context, identity.key.handle) == 1
            else { throw .library() }
        }
        guard let store = SSL_CTX_get_cert_store(context) else { throw .library() }
        for authority in authorities {
            guard X509_STORE_add_cert(store, authority.handle) == 1 else { throw .library() }
            // So that clients of several clusters know which certificate to show.
            if SSL_CTX_add_client_CA(context, authority.handle) != 1 { throw .library() }
        }
        switch verification {
        case .required: SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        case .optional: SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        case .none: SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
        }
    }

    deinit { SSL_CTX_free(handle) }
}
