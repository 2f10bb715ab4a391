// SPDX-License-Identifier: Apache-2.0
import COpenSSL

/// A certificate authority: one key that says whose certificates hold.
public struct Authority: Sendable {
    /// Its own certificate.
    public let certificate: Certificate
    private let key: PrivateKey

    /// An authority of an earlier day.
    public init(certificate: Certificate, key: PrivateKey) {
        self.certificate = certificate
        self.key = key
    }

    /// A new authority with a self-signed certificate.
    ///
    /// - Parameters:
    ///   - from: second of the Unix epoch from which on it holds.
    ///   - until: second until which it does.
    public init(commonName: String, from: Int64, until: Int64) throws(TLSError) {
        let key = try PrivateKey()
        let made = try Authority.make(
            CertificateNames(commonName: commonName), publicKey: key.handle, issuer: nil, key: key, from: from,
            until: until,
            extensions: [
                (NID_basic_constraints, "critical,CA:TRUE,pathlen:0"), (NID_key_usage, "critical,keyCertSign,cRLSign"),
                (NID_subject_key_identifier, "hash"),
            ])
        self.init(certificate: made, key: key)
    }

    /// The key as PEM, to be kept.
    public func keyPEM() throws(TLSError) -> String { try key.pem() }

    /// Signs a request: a certificate for its key, with the names given (those of the request do not count), to serve and
    /// to be a client.
    public func sign(
        _ request: CertificateRequest, names: CertificateNames, from: Int64, until: Int64
    ) throws(TLSError) -> Certificate {
        guard let parsed = PEM.read(request.pem, { PEM_read_bio_X509_REQ($0, nil, PEM.noPassphrase, nil) }) else {
            throw .malformed("certificate request")
        }
        defer { X509_REQ_free(parsed) }
        guard let publicKey = X509_REQ_get0_pubkey(parsed), X509_REQ_verify(parsed, publicKey) == 1 else {
            ERR_clear_error()
            throw .malformed("certificate request: its signature does not hold")
        }
        var extensions: [(Int32, String)] = [
            (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature"),
            (NID_ext_key_usage, "serverAuth,clientAuth"), (NID_authority_key_identifier, "keyid"),
        ]
        if !names.alternatives.isEmpty { extensions.append((NID_subject_alt_name, names.alternatives)) }
        return try Authority.make(
            names, publicKey: publicKey, issuer: certificate, key: key, from: from, until: until,
            extensions: extensions)
    }

    private static func make(
        _ names: CertificateNames, publicKey: OpaquePointer, issuer: Certificate?, key: PrivateKey, from: Int64,
        until: Int64, extensions: [(Int32, String)]
    ) throws(TLSError) -> Certificate {
        guard let made = X509_new() else { throw .library() }
        let certificate = Certificate(owning: made)
        guard let subject = cossl_make_name(names.commonName) else { throw .library() }
        defer { X509_NAME_free(subject) }
        // 127 random bits (RFC 5280, section 4.1.2.2, wants a positive number of at most 20 bytes).
        var random = Cryptography.random(16)
        random[0] &= 0x7f
        guard let number = BN_bin2bn(random, Int32(random.count), nil) else { throw .library() }
        defer { BN_free(number) }
        guard X509_set_version(made, 2) == 1, BN_to_ASN1_INTEGER(number, X509_get_serialNumber(made)) != nil,
            X509_set_subject_name(made, subject) == 1,
            X509_set_issuer_name(made, issuer.flatMap { X509_get_subject_name($0.handle) } ?? subject) == 1,
            ASN1_TIME_set(X509_getm_notBefore(made), Int(from)) != nil,
            ASN1_TIME_set(X509_getm_notAfter(made), Int(until)) != nil, X509_set_pubkey(made, publicKey) == 1
        else { throw .library() }
        for (nid, value) in extensions {
            guard cossl_add_extension(made, issuer?.handle ?? made, nid, value) == 1 else { throw .library() }
        }
        guard cossl_set_digest_sign(key.handle, made) > 0 else { throw .library() }
        return certificate
    }
}
