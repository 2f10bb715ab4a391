// SPDX-License-Identifier: Apache-2.0
import COpenSSL
import Glibc

/// An X.509 certificate (RFC 5280).
public final class Certificate: @unchecked Sendable {  // reference counts are atomic, nobody changes it
    let handle: OpaquePointer

    init(owning handle: OpaquePointer) { self.handle = handle }

    /// Reads PEM; of several the first.
    public convenience init(pem: String) throws(TLSError) {
        guard let certificate = PEM.read(pem, { PEM_read_bio_X509($0, nil, PEM.noPassphrase, nil) }) else {
            throw .malformed("certificate")
        }
        self.init(owning: certificate)
    }

    deinit { X509_free(handle) }

    /// Reads all certificates of a PEM text.
    public static func all(pem: String) -> [Certificate] {
        PEM.read(pem) { bio in
            var list: [Certificate] = []
            while let next = PEM_read_bio_X509(bio, nil, PEM.noPassphrase, nil) {
                list.append(Certificate(owning: next))
            }
            return list
        } ?? []
    }

    /// As PEM.
    public func pem() throws(TLSError) -> String { try PEM.write { PEM_write_bio_X509($0, handle) } }

    /// Its bytes (DER).
    public var der: [UInt8] {
        let count = i2d_X509(handle, nil)
        guard count > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: Int(count)) { buffer, written in
            var end = buffer.baseAddress
            written = Int(max(0, i2d_X509(handle, &end)))
        }
    }

    /// SHA-256 over its bytes.
    public var fingerprint: [UInt8] { Cryptography.sha256(der) }

    /// The subject's common name.
    public var commonName: String {
        guard let name = X509_get_subject_name(handle) else { return "" }
        let at = X509_NAME_get_index_by_NID(name, NID_commonName, -1)
        guard at >= 0, let entry = X509_NAME_get_entry(name, at), let data = X509_NAME_ENTRY_get_data(entry) else {
            return ""
        }
        return Certificate.text(data)
    }

    /// The alternative names that are URIs.
    public var uris: [String] {
        guard let names = cossl_alternative_names(handle) else { return [] }
        defer { cossl_free_names(names) }
        return (0..<cossl_name_count(names)).compactMap { index in
            cossl_uri(names, index).map { Certificate.text($0) }
        }
    }

    /// The serial number, hexadecimal.
    public var serial: String {
        guard let number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(handle), nil) else { return "" }
        defer { BN_free(number) }
        guard let text = BN_bn2hex(number) else { return "" }
        defer { CRYPTO_free(text, nil, 0) }
        return String(cString: text).lowercased()
    }

    /// The second of the Unix epoch from which on it holds.
    public var notBefore: Int64 { Certificate.seconds(X509_get0_notBefore(handle)) }
    /// The second of the Unix epoch until which it holds.
    public var notAfter: Int64 { Certificate.seconds(X509_get0_notAfter(handle)) }

    /// Whether another certificate was signed with the key of this one.
    public func hasSigned(_ other: Certificate) -> Bool {
        defer { ERR_clear_error() }
        guard let key = X509_get0_pubkey(handle) else { return false }
        return X509_verify(other.handle, key) == 1
    }

    /// Whether a key is the one that the certificate is for.
    public func isFor(_ key: PrivateKey) -> Bool {
        defer { ERR_clear_error() }
        return X509_check_private_key(handle, key.handle) == 1
    }

    private static func text(_ string: UnsafePointer<ASN1_STRING>) -> String {
        let count = Int(ASN1_STRING_length(string))
        guard count > 0, let start = ASN1_STRING_get0_data(string) else { return "" }
        return String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    }

    private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
        var parts = tm()
        guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else { return 0 }
        return Int64(timegm(&parts))
    }
}

/// Names that a certificate speaks for.
public struct CertificateNames: Sendable, Equatable {
    /// The subject's common name.
    public var commonName: String
    /// URIs.
    public var uris: [String] = []
    /// DNS names.
    public var dns: [String] = []
    /// IP addresses.
    public var addresses: [String] = []

    /// A common name only.
    public init(commonName: String) { self.commonName = commonName }

    /// The text form that OpenSSL reads. Names with a comma would say more than they are, and are left out.
    var alternatives: String {
        let all = uris.map { ("URI", $0) } + dns.map { ("DNS", $0) } + addresses.map { ("IP", $0) }
        return all.filter { !$0.1.contains(",") && !$0.1.contains("\n") }.map { "\($0.0):\($0.1)" }
            .joined(separator: ",")
    }
}

/// A request for a certificate (PKCS #10, RFC 2986): proof that whoever asks has the key.
public struct CertificateRequest: Sendable {
    /// The request.
    public let pem: String

    /// A request for a key.
    public init(key: PrivateKey, commonName: String) throws(TLSError) {
        guard let request = X509_REQ_new() else { throw .library() }
        defer { X509_REQ_free(request) }
        guard let name = cossl_make_name(commonName) else { throw .library() }
        defer { X509_NAME_free(name) }
        guard X509_REQ_set_version(request, 0) == 1, X509_REQ_set_subject_name(request, name) == 1,
            X509_REQ_set_pubkey(request, key.handle) == 1, X509_REQ_sign(request, key.handle, EVP_sha256()) > 0
        else { throw .library() }
        pem = try PEM.write { PEM_write_bio_X509_REQ($0, request) }
    }

    /// A request that came from elsewhere; checked when it is signed.
    public init(pem: String) { self.pem = pem }
}
