// SPDX-License-Identifier: Apache-2.0
import API
import Consensus
import Foundation
import Linux
import SQLite
import Store
import Synchronization
import TLS
import Topology
import Wire

/// What a node does by itself, now and then: it tells the cluster what has changed about it, renews its certificate, follows
/// what is trusted, and looks for what an operator should know of. A leader also brings changes of the authority to their end
/// and compares the states of all nodes.
final class Housekeeping: Sendable {
    private unowned let node: Node
    private static let interval = Duration.seconds(2)
    /// Rounds between two looks at disks and sums.
    private static let seldom = 5
    /// Free bytes below which the disk is as good as full.
    private static let reserve: UInt64 = 64 << 20

    /// When to tell the cluster again what it did not take: each time adds an entry.
    private let nextIntroduction = Mutex(ContinuousClock.now)
    private static let refusalPause = Duration.seconds(30)

    init(_ node: Node) { self.node = node }

    func run() async {
        warnOfSQLite()
        var round = 0
        while !Task.isCancelled {
            do {
                try trust()
                try await introduce()
                try await keepKeys()
                node.flowState.followSoon()
                try await node.flowState.keepSecrets()
                try await renew()
                if node.replica.agreement.role == .leader {
                    try await advanceRotation()
                    if round % Housekeeping.seldom == 0 { await compareDigests() }
                }
                if round % Housekeeping.seldom == 0 { look() }
            } catch is CancellationError { return } catch {
                // Tried again in the next round. Without a quorum nothing of this can be done, which shows elsewhere.
                if !(error is StoreRefusal) { node.say("housekeeping: \(error)") }
            }
            round += 1
            try? await Task.sleep(for: round < 5 ? .milliseconds(300) : Housekeeping.interval)
        }
    }

    /// SQLite from 3.7.0 to 3.51.2 can lose transactions where two connections write and checkpoint one file
    /// (sqlite.org/wal.html, "the WAL-reset bug"). Ours has one connection a file, so it is said and not feared.
    private func warnOfSQLite() { node.say("SQLite \(Database.version), one connection a file") }

    /// Trusts whom the cluster trusts.
    private func trust() throws {
        if try node.certificates.trust(Array(node.replica.state.authorities.values)) {
            try node.useCertificates()
            node.say("trusts other authorities than before")
        }
    }

    /// Tells the cluster what it does not know of this node.
    private func introduce() async throws {
        let state = node.replica.state
        guard var record = state.nodes[node.replica.id], node.replica.agreement.leader != nil else { return }
        let before = record
        record.version = Founding.version
        record.format = Transaction.format
        record.epoch = node.replica.epoch
        record.peerAddress = node.identity.peerAddress
        record.apiAddress = node.identity.apiAddress
        record.certificate = node.certificates.record
        guard record != before, ContinuousClock.now >= nextIntroduction.withLock({ $0 }) else { return }
        let outcome = try await node.replica.submit([.putNode(record)])
        if case .failed(_, let problems) = outcome {
            let reasons = problems.map { "\($0.reason): \($0.remedy)" }.joined(separator: "; ")
            node.replica.alarm("introduction", "the cluster does not take what \(node.name) says of itself: \(reasons)")
            nextIntroduction.withLock { $0 = .now + Housekeeping.refusalPause }
        } else {
            node.replica.alarm("introduction", nil)
        }
    }

    // MARK: - Certificates

    /// Voters have the keys of the authorities; nobody else has.
    private func keepKeys() async throws {
        let state = node.replica.state
        guard state.nodes[node.replica.id]?.role == .voter else {
            // One that votes no more keeps a key until a voter shows that it has it, or it might be lost.
            if state.nodes[node.replica.id] != nil { await forgetKeys(state) }
            return
        }
        node.certificates.forgetKeys(except: Set(state.authorities.keys))
        for record in state.authorities.values where record.state != .retiring {
            if node.certificates.hasKey(record.fingerprint) { continue }
            for other in state.nodes.values where other.id != node.replica.id {
                guard let key = try? await node.ask(other.id, .authorityKey, Array(record.fingerprint.utf8)) else {
                    continue
                }
                try node.certificates.keep(key, for: record)
                node.say("has the key of authority \(record.fingerprint.prefix(16)) now, from \(other.name)")
                break
            }
        }
    }

    private func forgetKeys(_ state: ClusterState) async {
        var kept: Set<String> = []
        for fingerprint in state.authorities.keys where node.certificates.hasKey(fingerprint) {
            kept.insert(fingerprint)
            for voter in state.nodes.values where voter.role == .voter {
                if (try? await node.ask(voter.id, .hasKey, Array(fingerprint.utf8))) == [1] { kept.remove(fingerprint) }
            }
        }
        node.certificates.forgetKeys(except: kept)
    }

    private func renew() async throws {
        let state = node.replica.state
        warnOfExpiry(state)
        guard let active = state.activeAuthority, state.nodes[node.replica.id] != nil,
            node.certificates.needsRenewal(active: active.fingerprint)
        else { return }
        try await node.certificates.renew { [node] request in try await node.requestCertificate(request) }
        try node.useCertificates()
        node.say("has a new certificate, until \(rfc3339(node.certificates.record.notAfter))")
        try await introduce()
    }

    private func warnOfExpiry(_ state: ClusterState) {
        let now = wallSeconds()
        let lifetime = node.configuration.certificateLifetime
        let ending = state.nodes.values.filter {
            $0.certificate.notAfter != 0 && $0.certificate.notAfter - now < lifetime / 6
        }
        .map { "\($0.name) (\(rfc3339($0.certificate.notAfter)))" }.sorted()
        node.replica.alarm(
            "certificates",
            ending.isEmpty
                ? nil : "certificates end soon and do not renew themselves: \(ending.joined(separator: ", "))")
        let authorities = state.authorities.values.filter { $0.state == .active && $0.notAfter - now < 30 * 86_400 }
        node.replica.alarm(
            "authority",
            authorities.first.map {
                "the cluster's authority ends at \(rfc3339($0.notAfter)): selvage cluster certs --rotate"
            })
    }

    /// A new authority is first trusted by all, then signs, and the old one goes when nobody has a certificate of it.
    private func advanceRotation() async throws {
        let state = node.replica.state
        if var next = state.authorities.values.first(where: { $0.state == .trusted }) {
            // Everybody trusts it first: a node that does not know it could not be told of it by those that use it. And those
            // that sign have its key.
            let fingerprint = Array(next.fingerprint.utf8)
            guard node.certificates.hasKey(next.fingerprint), node.certificates.trusts(next.fingerprint) else { return }
            for other in state.nodes.values where other.id != node.replica.id {
                guard (try? await node.ask(other.id, .trusts, fingerprint)) == [1] else { return }
                if other.role == .voter {
                    guard (try? await node.ask(other.id, .hasKey, fingerprint)) == [1] else { return }
                }
            }
            next.state = .active
            _ = try await node.replica.submit([.putAuthority(next)])
            node.say("authority \(next.fingerprint.prefix(16)) signs from now on")
        } else if let active = state.activeAuthority,
            let old = state.authorities.values.first(where: { $0.state == .retiring }),
            state.nodes.values.allSatisfy({ $0.certificate.authority == active.fingerprint })
        {
            _ = try await node.replica.submit([.deleteAuthority(old.fingerprint)])
            node.say("authority \(old.fingerprint.prefix(16)) is trusted no more")
        }
    }

    // MARK: - What an operator should know

    private func look() {
        var status = statvfs()
        guard statvfs(node.configuration.directory.path, &status) == 0 else { return }
        let free = UInt64(status.f_bavail) * UInt64(status.f_frsize)
        node.replica.alarm(
            "disk",
            free < Housekeeping.reserve
                ? "the disk of \(node.name) is almost full: \(free >> 20) MB are left in \(node.configuration.directory.path)"
                : nil)
    }

    /// The same entries must have made the same state everywhere.
    private func compareDigests() async {
        guard let own = try? await node.replica.status().digests, !own.isEmpty else { return }
        let known = Dictionary(own.map { ($0.index, $0.digest.description) }, uniquingKeysWith: { a, _ in a })
        var differing: [String] = []
        for other in node.replica.state.nodes.values where other.id != node.replica.id {
            guard let bytes = try? await node.ask(other.id, .digests, seconds: 2) else { continue }
            var reader = ByteReader(bytes)
            guard (try? reader.number(UInt8.self)) == StateDigest.version,
                let theirs = try? reader.list({ reader throws(MalformedBytes) in
                    (try reader.number(UInt64.self), try reader.text())
                })
            else { continue }
            if let (index, _) = theirs.first(where: { index, digest in known[index].map { $0 != digest } ?? false }) {
                differing.append("\(other.name) (entry \(index))")
            }
        }
        node.replica.alarm(
            "digest",
            differing.isEmpty
                ? nil
                : "CORRUPT: the state of \(differing.joined(separator: ", ")) differs from that of \(node.name): remove what is wrong, wipe it, and let it join again"
        )
    }
}
