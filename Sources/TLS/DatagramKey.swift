// SPDX-License-Identifier: Apache-2.0
import COpenSSL

/// A key for datagrams: AES-256 in Galois/Counter Mode (NIST SP 800-38D), one direction and one sender a key, so that a
/// counter is a nonce.
public struct DatagramKey: ~Copyable {
    /// Bytes that sealing adds.
    public static let tagBytes = 16

    private let context: OpaquePointer
    private let seals: Bool

    /// A key derived from a secret (RFC 5869, HKDF with SHA-256).
    ///
    /// - Parameters:
    ///   - info: what the key is for; other text, other key.
    ///   - seals: whether it seals; otherwise it opens.
    public init(secret: [UInt8], info: [UInt8], seals: Bool) throws(TLSError) {
        context = try DatagramKey.makeContext(secret, info, seals)
        self.seals = seals
    }

    private static func makeContext(
        _ secret: [UInt8], _ info: [UInt8], _ seals: Bool
    ) throws(TLSError) -> OpaquePointer {
        var key = [UInt8](repeating: 0, count: 32)
        guard cossl_hkdf(secret, secret.count, info, info.count, &key, key.count) == 1,
            let context = EVP_CIPHER_CTX_new()
        else { throw .library() }
        let isReady =
            seals
            ? EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nil)
            : EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nil, key, nil)
        guard isReady == 1 else {
            EVP_CIPHER_CTX_free(context)
            throw .library()
        }
        return context
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    private static func nonce(_ counter: UInt64) -> [UInt8] {
        (0..<12).map { $0 < 4 ? 0 : UInt8(truncatingIfNeeded: counter >> UInt64(8 * (11 - $0))) }
    }

    /// Appends the sealed bytes and their tag to a datagram.
    ///
    /// - Parameters:
    ///   - counter: never the same twice under one key.
    ///   - associated: what is not sealed but must be as it was.
    public mutating func seal(
        _ bytes: [UInt8], counter: UInt64, associated: [UInt8], into out: inout [UInt8]
    ) -> Bool {
        precondition(seals, "the key opens")
        let start = out.count
        out.append(contentsOf: repeatElement(0, count: bytes.count + DatagramKey.tagBytes))
        let nonce = DatagramKey.nonce(counter)
        return out.withUnsafeMutableBufferPointer { out -> Bool in
            guard let base = out.baseAddress else { return false }
            var length: Int32 = 0
            var last: Int32 = 0
            guard EVP_EncryptInit_ex(context, nil, nil, nil, nonce) == 1,
                EVP_EncryptUpdate(context, nil, &length, associated, Int32(associated.count)) == 1,
                EVP_EncryptUpdate(context, base + start, &length, bytes, Int32(bytes.count)) == 1,
                EVP_EncryptFinal_ex(context, base + start + Int(length), &last) == 1,
                EVP_CIPHER_CTX_ctrl(
                    context, EVP_CTRL_AEAD_GET_TAG, Int32(DatagramKey.tagBytes), base + start + bytes.count) == 1
            else { return false }
            return true
        }
    }

    /// Opens what was sealed; `nil` when it is not as it was.
    public mutating func open(
        _ sealed: UnsafeRawBufferPointer, counter: UInt64, associated: [UInt8]
    ) -> [UInt8]? {
        precondition(!seals, "the key seals")
        guard let base = sealed.bindMemory(to: UInt8.self).baseAddress, sealed.count >= DatagramKey.tagBytes else {
            return nil
        }
        let count = sealed.count - DatagramKey.tagBytes
        let nonce = DatagramKey.nonce(counter)
        var length: Int32 = 0
        var last: Int32 = 0
        var isGenuine = false
        let bytes = [UInt8](unsafeUninitializedCapacity: count + 16) { out, written in
            guard let start = out.baseAddress, EVP_DecryptInit_ex(context, nil, nil, nil, nonce) == 1,
                EVP_DecryptUpdate(context, nil, &length, associated, Int32(associated.count)) == 1,
                EVP_DecryptUpdate(context, start, &length, base, Int32(count)) == 1,
                EVP_CIPHER_CTX_ctrl(
                    context, EVP_CTRL_AEAD_SET_TAG, Int32(DatagramKey.tagBytes),
                    UnsafeMutableRawPointer(mutating: base + count)) == 1,
                EVP_DecryptFinal_ex(context, start + Int(length), &last) == 1
            else { return }
            isGenuine = true
            written = count
        }
        return isGenuine ? bytes : nil
    }
}
