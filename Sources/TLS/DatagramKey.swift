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

    /// A counter as nonce: 12 bytes, big-endian.
    private static func nonce(_ counter: UInt64) -> InlineArray<12, UInt8> {
        InlineArray { $0 < 4 ? 0 : UInt8(truncatingIfNeeded: counter >> UInt64(8 * (11 - $0))) }
    }

    /// Seals what a datagram holds in its place, and appends the tag.
    ///
    /// - Parameters:
    ///   - header: bytes of the datagram that stay as they are; they must be the same where it is opened.
    ///   - counter: never the same twice under one key.
    ///   - more: what is not sent but must be the same where it is opened.
    public mutating func seal(_ datagram: inout [UInt8], header: Int, counter: UInt64, more: [UInt8]) -> Bool {
        precondition(seals && header <= datagram.count, "the key opens, or the header is longer than the datagram")
        let count = datagram.count - header
        datagram.append(contentsOf: repeatElement(0, count: DatagramKey.tagBytes))
        let nonce = DatagramKey.nonce(counter)
        return datagram.withUnsafeMutableBufferPointer { datagram -> Bool in
            guard let base = datagram.baseAddress else { return false }
            let start = base + header
            var length: Int32 = 0
            var last: Int32 = 0
            let isReady = nonce.span.withUnsafeBufferPointer {
                EVP_EncryptInit_ex(context, nil, nil, nil, $0.baseAddress)
            }
            guard isReady == 1,
                EVP_EncryptUpdate(context, nil, &length, base, Int32(header)) == 1,
                EVP_EncryptUpdate(context, nil, &length, more, Int32(more.count)) == 1,
                EVP_EncryptUpdate(context, start, &length, start, Int32(count)) == 1,
                EVP_EncryptFinal_ex(context, start + Int(length), &last) == 1,
                EVP_CIPHER_CTX_ctrl(
                    context, EVP_CTRL_AEAD_GET_TAG, Int32(DatagramKey.tagBytes), start + count) == 1
            else { return false }
            return true
        }
    }

    /// Opens a datagram in its place; what was sealed, or `nil` when it, its header or the rest is not as it was.
    ///
    /// - Parameter header: bytes of the datagram that are not sealed.
    public mutating func open(
        _ datagram: UnsafeMutableRawBufferPointer, header: Int, counter: UInt64, more: [UInt8]
    ) -> UnsafeRawBufferPointer? {
        precondition(!seals, "the key seals")
        let count = datagram.count - header - DatagramKey.tagBytes
        guard count >= 0, let base = datagram.bindMemory(to: UInt8.self).baseAddress else { return nil }
        let nonce = DatagramKey.nonce(counter)
        var length: Int32 = 0
        var last: Int32 = 0
        let isReady = nonce.span.withUnsafeBufferPointer {
            EVP_DecryptInit_ex(context, nil, nil, nil, $0.baseAddress)
        }
        let start = base + header
        guard isReady == 1,
            EVP_DecryptUpdate(context, nil, &length, base, Int32(header)) == 1,
            EVP_DecryptUpdate(context, nil, &length, more, Int32(more.count)) == 1,
            EVP_DecryptUpdate(context, start, &length, start, Int32(count)) == 1,
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(DatagramKey.tagBytes), start + count) == 1,
            EVP_DecryptFinal_ex(context, start + Int(length), &last) == 1
        else { return nil }
        return UnsafeRawBufferPointer(start: start, count: count)
    }
}
