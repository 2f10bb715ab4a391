// SPDX-License-Identifier: Apache-2.0
import COpenSSL

/// A private key on the curve P-256.
public final class PrivateKey: @unchecked Sendable {  // reference counts are atomic, nobody changes it
    let handle: OpaquePointer

    /// Makes a new one.
    public init() throws(TLSError) {
        guard let key = cossl_make_p256_key() else { throw .library() }
        handle = key
    }

    /// Reads PEM.
    public init(pem: String) throws(TLSError) {
        guard let key = PEM.read(pem, { PEM_read_bio_PrivateKey($0, nil, PEM.noPassphrase, nil) }) else {
            throw .malformed("private key")
        }
        handle = key
    }

    deinit { EVP_PKEY_free(handle) }

    /// As PKCS #8, unencrypted.
    public func pem() throws(TLSError) -> String {
        try PEM.write { PEM_write_bio_PKCS8PrivateKey($0, handle, nil, nil, 0, nil, nil) }
    }
}
