// SPDX-License-Identifier: Apache-2.0
import Consensus
import Topology
import Wire

/// Records as bytes, in commands and in rows of the state.
extension ByteWriter {
    mutating func cluster(_ record: ClusterRecord) {
        text(record.id)
        text(record.name)
    }

    mutating func node(_ node: NodeRecord) {
        number(node.id.value)
        text(node.name)
        number(node.role.rawValue)
        text(node.peerAddress)
        text(node.apiAddress)
        text(node.version)
        number(node.format)
        count(node.epoch)
        number(UInt64(bitPattern: node.joined))
        text(node.certificate.serial)
        text(node.certificate.authority)
        number(UInt64(bitPattern: node.certificate.notAfter))
    }

    mutating func token(_ token: JoinToken) {
        text(token.id)
        data(token.secretHash)
        number(UInt64(bitPattern: token.expires))
        number(token.role?.rawValue ?? 0)
        number(token.usedBy?.value ?? 0)
    }

    mutating func stateKey(_ key: StateKeyRecord) {
        number(key.number)
        text(key.fingerprint)
        number(key.state.rawValue)
        number(UInt64(bitPattern: key.since))
    }

    mutating func authority(_ authority: AuthorityRecord) {
        text(authority.fingerprint)
        text(authority.certificate)
        number(authority.state.rawValue)
        number(UInt64(bitPattern: authority.notAfter))
    }

    mutating func key(_ key: AccessKey) {
        text(key.name)
        text(key.role.description)
        data(key.secretHash)
        number(UInt64(bitPattern: key.created))
        number(UInt64(bitPattern: key.expires))
    }

    mutating func outcome(_ outcome: Outcome) {
        switch outcome {
        case .done(let revision):
            number(UInt8(0))
            count(revision)
        case .failed(let failure, let problems):
            number(failure.rawValue)
            list(problems) { out, problem in
                out.text(problem.object)
                out.text(problem.reason)
                out.text(problem.remedy)
            }
        }
    }
}

extension ByteReader {
    mutating func cluster() throws(MalformedBytes) -> ClusterRecord {
        ClusterRecord(id: try text(), name: try text())
    }

    mutating func time() throws(MalformedBytes) -> Int64 { Int64(bitPattern: try number()) }

    mutating func node() throws(MalformedBytes) -> NodeRecord {
        let id = NodeID(try number())
        let name = try text()
        guard let role = NodeRecord.Role(rawValue: try number()) else { throw MalformedBytes("a node of no role") }
        return NodeRecord(
            id: id, name: name, role: role, peerAddress: try text(), apiAddress: try text(), version: try text(),
            format: try number(), epoch: try longCount(), joined: try time(),
            certificate: CertificateRecord(serial: try text(), authority: try text(), notAfter: try time()))
    }

    mutating func token() throws(MalformedBytes) -> JoinToken {
        var token = JoinToken(id: try text(), secretHash: try data(), expires: try time(), role: nil)
        let code: UInt8 = try number()
        if code != 0 {
            guard let role = NodeRecord.Role(rawValue: code) else { throw MalformedBytes("a token of no role") }
            token.role = role
        }
        let user: UInt64 = try number()
        if user != 0 { token.usedBy = NodeID(user) }
        return token
    }

    mutating func stateKey() throws(MalformedBytes) -> StateKeyRecord {
        let number: UInt8 = try number()
        let fingerprint = try text()
        guard let state = StateKeyRecord.State(rawValue: try self.number()) else {
            throw MalformedBytes("a key of no state")
        }
        return StateKeyRecord(number: number, fingerprint: fingerprint, state: state, since: try time())
    }

    mutating func authority() throws(MalformedBytes) -> AuthorityRecord {
        let fingerprint = try text()
        let certificate = try text()
        guard let state = AuthorityRecord.State(rawValue: try number()) else {
            throw MalformedBytes("an authority of no state")
        }
        return AuthorityRecord(fingerprint: fingerprint, certificate: certificate, state: state, notAfter: try time())
    }

    mutating func key() throws(MalformedBytes) -> AccessKey {
        let name = try text()
        guard let role = AccessRole(try text()) else { throw MalformedBytes("a key of no role") }
        return AccessKey(name: name, role: role, secretHash: try data(), created: try time(), expires: try time())
    }

    mutating func outcome() throws(MalformedBytes) -> Outcome {
        let code: UInt8 = try number()
        if code == 0 { return .done(try longCount()) }
        guard let failure = Outcome.Failure(rawValue: code) else { throw MalformedBytes("an outcome of no kind") }
        return .failed(
            failure,
            try list { reader throws(MalformedBytes) in
                Problem(try reader.text(), try reader.text(), remedy: try reader.text())
            })
    }
}
