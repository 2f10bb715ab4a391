// SPDX-License-Identifier: Apache-2.0
import Glibc
import NIOCore
import NIOEmbedded
import TLS
import TestSupport
import Testing

private let now = Int64(time(nil))

/// A certificate for a node of an authority.
private func identity(
    _ authority: Authority, _ name: String, from: Int64 = now - 60, until: Int64 = now + 3600
) throws -> (certificate: Certificate, key: PrivateKey) {
    let key = try PrivateKey()
    var names = CertificateNames(commonName: name)
    names.uris = ["selvage://cluster/\(name)"]
    names.dns = [name]
    names.addresses = ["192.0.2.7"]
    let request = try CertificateRequest(key: key, commonName: "whatever it says")
    return (try authority.sign(request, names: names, from: from, until: until), key)
}

private func authority(_ name: String = "authority") throws -> Authority {
    try Authority(commonName: name, from: now - 60, until: now + 86_400)
}

/// Two channels whose ends are each other's wire.
private struct Pair {
    let client = EmbeddedChannel()
    let server = EmbeddedChannel()

    init(_ clientContext: TLSContext, _ serverContext: TLSContext, host: String? = nil) throws {
        let errors = (ErrorCollector(), ErrorCollector())
        (clientErrors, serverErrors) = errors
        try client.pipeline.syncOperations.addHandlers(TLSHandler(clientContext, .client, host: host), errors.0)
        try server.pipeline.syncOperations.addHandlers(TLSHandler(serverContext, .server), errors.1)
        client.connect(to: try SocketAddress(unixDomainSocketPath: "/there"), promise: nil)
        server.connect(to: try SocketAddress(unixDomainSocketPath: "/here"), promise: nil)
    }

    let clientErrors: ErrorCollector
    let serverErrors: ErrorCollector

    /// Carries bytes over until nobody says anything.
    func carry() throws {
        var isBusy = true
        while isBusy {
            isBusy = false
            while let bytes = try client.readOutbound(as: ByteBuffer.self) {
                _ = try? server.writeInbound(bytes)
                isBusy = true
            }
            while let bytes = try server.readOutbound(as: ByteBuffer.self) {
                _ = try? client.writeInbound(bytes)
                isBusy = true
            }
        }
    }
}

private final class ErrorCollector: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    var errors: [TLSError] = []
    var established: TLSEstablished?

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let error = error as? TLSError { errors.append(error) }
    }
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? TLSEstablished { established = event }
    }
}

@Suite struct AuthorityTests {
    @Test func aSignedCertificateSaysTheGivenNamesAndNotThoseOfTheRequest() throws {
        let made = try identity(try authority(), "n1")
        #expect(made.certificate.commonName == "n1")
        #expect(made.certificate.uris == ["selvage://cluster/n1"])
        #expect(made.certificate.notAfter == now + 3600)
        #expect(made.certificate.isFor(made.key))
        #expect(!made.certificate.isFor(try PrivateKey()))
    }

    @Test func keysAndCertificatesSurviveTheirText() throws {
        let made = try identity(try authority(), "n1")
        let certificate = try Certificate(pem: made.certificate.pem())
        #expect(certificate.fingerprint == made.certificate.fingerprint)
        #expect(certificate.isFor(try PrivateKey(pem: made.key.pem())))
        #expect(Certificate.all(pem: try made.certificate.pem() + made.certificate.pem()).count == 2)
    }

    @Test func aRequestWhoseSignatureDoesNotHoldIsNotSigned() throws {
        let request = try CertificateRequest(key: try PrivateKey(), commonName: "n1")
        var lines = request.pem.split(separator: "\n").map(String.init)
        let middle = lines.count - 2
        lines[middle] = String(lines[middle].reversed())
        #expect(throws: TLSError.self) {
            _ = try authority().sign(
                CertificateRequest(pem: lines.joined(separator: "\n")), names: .init(commonName: "n1"), from: now,
                until: now + 60)
        }
        #expect(throws: TLSError.malformed("certificate request")) {
            _ = try authority().sign(
                CertificateRequest(pem: "nonsense"), names: .init(commonName: "n1"), from: now, until: now + 60)
        }
    }
}

@Suite struct HandshakeTests {
    @Test func bothSidesSeeEachOthersCertificateAndWhatWasWrittenBefore() throws {
        let authority = try authority()
        let (n1, n2) = (try identity(authority, "n1"), try identity(authority, "n2"))
        let pair = try Pair(
            TLSContext(identity: n1, authorities: [authority.certificate], verification: .required),
            TLSContext(identity: n2, authorities: [authority.certificate], verification: .required))
        // Before the handshake; more than one record.
        let text = [UInt8](repeating: 7, count: 100_000)
        pair.client.writeAndFlush(ByteBuffer(bytes: text), promise: nil)
        try pair.carry()
        #expect(pair.serverErrors.established?.peer?.commonName == "n1")
        #expect(pair.clientErrors.established?.peer?.commonName == "n2")
        var heard: [UInt8] = []
        while let bytes = try pair.server.readInbound(as: ByteBuffer.self) {
            heard += Array(bytes.readableBytesView)
        }
        #expect(heard == text)
    }

    @Test func aCertificateOfAnotherAuthorityIsRefusedAndBothSidesSayWhy() throws {
        let (ours, theirs) = (try authority("ours"), try authority("theirs"))
        let stranger = try identity(theirs, "n9")
        let pair = try Pair(
            TLSContext(identity: stranger, authorities: [ours.certificate], verification: .required),
            TLSContext(identity: try identity(ours, "n1"), authorities: [ours.certificate], verification: .required))
        try pair.carry()
        #expect(pair.serverErrors.errors == [.untrusted("unable to get local issuer certificate")])
        #expect(pair.clientErrors.errors.first == .refused("tlsv1 alert unknown ca"))
    }

    @Test func anExpiredCertificateIsRefusedAndBothSidesSayWhy() throws {
        let authority = try authority()
        let old = try identity(authority, "n1", from: now - 7200, until: now - 3600)
        let pair = try Pair(
            TLSContext(identity: old, authorities: [authority.certificate], verification: .required),
            TLSContext(
                identity: try identity(authority, "n2"), authorities: [authority.certificate], verification: .required)
        )
        try pair.carry()
        #expect(pair.serverErrors.errors == [.untrusted("certificate has expired")])
        #expect(pair.clientErrors.errors.first == .refused("sslv3 alert certificate expired"))
    }

    @Test func whoShowsNoCertificateIsRefusedWhereOneIsWanted() throws {
        let authority = try authority()
        let server = try identity(authority, "n2")
        let pair = try Pair(
            TLSContext(identity: nil, authorities: [authority.certificate], verification: .required),
            TLSContext(identity: server, authorities: [authority.certificate], verification: .required))
        try pair.carry()
        #expect(pair.serverErrors.errors == [.untrusted("it showed none")])
        let lenient = try Pair(
            TLSContext(identity: nil, authorities: [authority.certificate], verification: .required),
            TLSContext(identity: server, authorities: [authority.certificate], verification: .optional))
        try lenient.carry()
        #expect(lenient.serverErrors.errors.isEmpty)
        #expect(lenient.serverErrors.established != nil)
    }

    @Test(arguments: [("n2", true), ("n3", false), ("192.0.2.7", true), ("192.0.2.8", false)])
    func aServerIsTakenForTheNamesInItsCertificateOnly(_ host: String, _ isTaken: Bool) throws {
        let authority = try authority()
        let pair = try Pair(
            TLSContext(identity: nil, authorities: [authority.certificate], verification: .required),
            TLSContext(identity: try identity(authority, "n2"), authorities: [], verification: .none), host: host)
        try pair.carry()
        #expect((pair.clientErrors.established != nil) == isTaken)
        #expect(pair.clientErrors.errors.isEmpty == isTaken)
    }

    @Test func whoSaysNothingIsClosedAfterTheTimeForTheHandshake() throws {
        let authority = try authority()
        let pair = try Pair(
            TLSContext(identity: nil, authorities: [], verification: .none),
            TLSContext(identity: try identity(authority, "n2"), authorities: [], verification: .none))
        pair.server.embeddedEventLoop.advanceTime(by: .seconds(6))
        #expect(pair.serverErrors.errors == [.timedOut])
        #expect(!pair.server.isActive)
    }

    @Test func anyBytesAtAnyMomentEndTheConnectionAndNothingElse() throws {
        let authority = try authority()
        let (n1, n2) = (try identity(authority, "n1"), try identity(authority, "n2"))
        var random = SeededRandom(seed: SeededRandom.seed)
        for _ in 0..<200 {
            let pair = try Pair(
                TLSContext(identity: n1, authorities: [authority.certificate], verification: .required),
                TLSContext(identity: n2, authorities: [authority.certificate], verification: .required))
            if Bool.random(using: &random) { try pair.carry() }
            var noise = (0..<Int.random(in: 1...600, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            // Something that begins like a record goes further.
            if Bool.random(using: &random), noise.count > 5 { noise.replaceSubrange(0..<3, with: [0x16, 3, 3]) }
            _ = try? pair.server.writeInbound(ByteBuffer(bytes: noise))
            try pair.carry()
            _ = try? pair.client.finish(acceptAlreadyClosed: true)
            _ = try? pair.server.finish(acceptAlreadyClosed: true)
        }
    }

    @Test func goodbyeClosesTheOtherSide() throws {
        let authority = try authority()
        let (n1, n2) = (try identity(authority, "n1"), try identity(authority, "n2"))
        let pair = try Pair(
            TLSContext(identity: n1, authorities: [authority.certificate], verification: .required),
            TLSContext(identity: n2, authorities: [authority.certificate], verification: .required))
        try pair.carry()
        pair.client.close(promise: nil)
        try pair.carry()
        #expect(!pair.server.isActive)
        #expect(pair.serverErrors.errors.isEmpty)
    }
}
