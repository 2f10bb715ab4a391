// SPDX-License-Identifier: Apache-2.0
import COpenSSL

/// Digests and random bytes of OpenSSL.
public enum Cryptography {
    /// SHA-256.
    public static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
        SHA256(bytes, bytes.count, &digest)
        return digest
    }

    /// Random bytes that nobody can guess.
    public static func random(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        // Without randomness there is no security: better no process than a guessable key.
        precondition(RAND_bytes(&bytes, Int32(count)) == 1, "OpenSSL has no randomness")
        return bytes
    }

    /// A random number that nobody can guess, and not 0.
    public static func randomID() -> UInt64 {
        while true {
            let value = random(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            if value != 0 { return value }
        }
    }

    /// Compares without telling by its time where two texts differ.
    public static func areEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        a.count == b.count && CRYPTO_memcmp(a, b, a.count) == 0
    }
}

/// Bytes as lower-case hexadecimal digits.
public func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    var text = ""
    for byte in bytes {
        text += byte < 16 ? "0" : ""
        text += String(byte, radix: 16)
    }
    return text
}

/// Reads and writes PEM through a memory BIO.
enum PEM {
    /// Nobody is asked for a passphrase: without this OpenSSL would ask on the terminal.
    static let noPassphrase:
        @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 =
            { _, _, _, _ in 0 }

    static func write(_ body: (OpaquePointer) -> Int32) throws(TLSError) -> String {
        guard let bio = BIO_new(BIO_s_mem()) else { throw .library() }
        defer { BIO_free(bio) }
        guard body(bio) == 1 else { throw .library() }
        var start: UnsafeMutablePointer<CChar>?
        let count = cossl_memory(bio, &start)
        guard let start, count > 0 else { throw .library() }
        return String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }

    static func read<Value>(_ text: String, _ body: (OpaquePointer) -> Value?) -> Value? {
        var text = text
        return text.withUTF8 { bytes in
            guard let bio = BIO_new_mem_buf(bytes.baseAddress, Int32(clamping: bytes.count)) else { return nil }
            defer {
                BIO_free(bio)
                ERR_clear_error()
            }
            return body(bio)
        }
    }
}
