// SPDX-License-Identifier: Apache-2.0
import API
import Consensus
import FlowState
import Foundation
import Linux
import Store
import Synchronization
import TLS
import Topology

/// The secrets by which nodes seal what they tell each other of flows, in a file of the node's own. The cluster agrees on
/// which there are and which one seals; the secrets themselves go from node to node over connections that members have.
final class StateKeys: Sendable {
    private let path: String
    /// Secrets by fingerprint.
    private let secrets: Mutex<[String: [UInt8]]>
    /// When secrets came: what is new may be one that is being agreed on.
    private let came = Mutex<[String: Int64]>([:])
    private static let newSeconds: Int64 = 600

    init(_ directory: NodeDirectory) throws {
        path = directory.stateKeysFile
        var known: [String: [UInt8]] = [:]
        if let contents = try Files.read(path) {
            for line in String(decoding: contents, as: UTF8.self).split(separator: "\n") {
                guard let secret = bytes(hexadecimal: String(line)), secret.count == 32 else { continue }
                known[StateKeys.fingerprint(secret)] = secret
            }
        }
        secrets = Mutex(known)
    }

    static func fingerprint(_ secret: [UInt8]) -> String { hexadecimal(Cryptography.sha256(secret)) }

    /// Makes a secret; its fingerprint.
    func make() throws -> String {
        let secret = Cryptography.random(32)
        try keep(secret)
        return StateKeys.fingerprint(secret)
    }

    /// Keeps a secret.
    func keep(_ secret: [UInt8]) throws {
        came.withLock { $0[StateKeys.fingerprint(secret)] = wallSeconds() }
        let all = secrets.withLock { secrets in
            secrets[StateKeys.fingerprint(secret)] = secret
            return secrets
        }
        try write(all)
    }

    /// Forgets all but these.
    func forget(except fingerprints: Set<String>) throws {
        let now = wallSeconds()
        let recent = came.withLock { came in
            came = came.filter { abs(now - $0.value) < StateKeys.newSeconds }
            return Set(came.keys)
        }
        let fingerprints = fingerprints.union(recent)
        let all: [String: [UInt8]]? = secrets.withLock { secrets in
            let kept = secrets.filter { fingerprints.contains($0.key) }
            guard kept.count != secrets.count else { return nil }
            secrets = kept
            return kept
        }
        if let all { try write(all) }
    }

    private func write(_ secrets: [String: [UInt8]]) throws {
        let text = secrets.sorted { $0.key < $1.key }.map { hexadecimal($0.value) + "\n" }.joined()
        try Files.replace(path, Array(text.utf8))
    }

    subscript(_ fingerprint: String) -> [UInt8]? { secrets.withLock { $0[fingerprint] } }
}

/// Brings the secrets to where they belong: each node fetches those that it lacks; who leads makes the first one, and another
/// one when a node was removed, and carries changes to their end.
extension StateService {
    /// How long a secret that seals no more still opens.
    private static let retiringSeconds: Int64 = 120
    /// How long nodes that can't be reached are waited for before others seal by a new secret. They fetch it when they are back.
    private static let patienceSeconds: Int64 = 30

    /// A round; called every few seconds, and when the secrets that the cluster agreed on changed.
    func keepSecrets() async throws {
        // One round at a time: two would each make a secret.
        guard startRound() else { return }
        defer { endRound() }
        let state = node.replica.state
        for record in state.stateKeys.values where keys[record.fingerprint] == nil { await fetch(record, state) }
        useSecrets(state)
        guard node.replica.agreement.role == .leader, state.allUnderstand(Transaction.stateKeysFormat) else { return }
        try await advance(state)
    }

    private func fetch(_ record: StateKeyRecord, _ state: ClusterState) async {
        for other in state.nodes.values.sorted(by: { $0.id < $1.id }) where other.id != node.replica.id {
            guard let secret = try? await node.ask(other.id, .stateSecret, Array(record.fingerprint.utf8), seconds: 2),
                StateKeys.fingerprint(secret) == record.fingerprint
            else { continue }
            do { try keys.keep(secret) } catch { node.say("flow state: a secret can't be kept: \(error)") }
            return
        }
    }

    /// Puts in force what is here of what the cluster agreed on.
    func useSecrets(_ state: ClusterState) {
        var secrets: [UInt8: [UInt8]] = [:]
        var active: UInt8?
        for record in state.stateKeys.values {
            guard let secret = keys[record.fingerprint] else { continue }
            secrets[record.number] = secret
            if record.state == .active { active = record.number }
        }
        // Until the one that seals is here the last one does: the others still open it.
        if active == nil {
            active = state.stateKeys.values.first { $0.state == .retiring && secrets[$0.number] != nil }?.number
        }
        do { try port.setSecrets(secrets, active: active) } catch { node.say("flow state: \(error)") }
        // What the state does not name may be one that is being agreed on.
        let named = Set(state.stateKeys.values.map(\.fingerprint))
        if !named.isEmpty, state.stateKeys.values.allSatisfy({ $0.state != .installed }), secrets.count == named.count {
            try? keys.forget(except: named)
        }
    }

    /// Makes another secret, which seals when all nodes have it.
    func installSecret(_ state: ClusterState, isFirst: Bool = false) async throws {
        guard let number = (1...UInt8.max).first(where: { state.stateKeys[$0] == nil && !isRecent($0, state) }) else {
            return
        }
        let fingerprint = try keys.make()
        let record = StateKeyRecord(
            number: number, fingerprint: fingerprint, state: isFirst ? .active : .installed, since: wallSeconds())
        if case .failed(_, let problems) = try await node.replica.submit([.putStateKey(record)]) {
            node.say("flow state: \(problems.first?.reason ?? "a secret was not taken")")
        }
    }

    /// Numbers are used in turn: what was sealed by the last of a number must not be taken for one of the next.
    private func isRecent(_ number: UInt8, _ state: ClusterState) -> Bool {
        guard let highest = state.stateKeys.keys.max(), highest < .max else { return false }
        return number <= highest
    }

    private func advance(_ state: ClusterState) async throws {
        let now = wallSeconds()
        guard !state.stateKeys.isEmpty else { return try await installSecret(state, isFirst: true) }
        if var next = state.stateKeys.values.first(where: { $0.state == .installed }) {
            // Who made it may be gone with it: nobody could seal.
            guard keys[next.fingerprint] != nil else {
                guard now - next.since > StateService.patienceSeconds else { return }
                _ = try await node.replica.submit([.deleteStateKey(next.number)])
                return
            }
            for other in state.nodes.values where other.id != node.replica.id {
                let has = try? await node.ask(other.id, .hasStateSecret, Array(next.fingerprint.utf8), seconds: 2)
                guard has == [1] || now - next.since > StateService.patienceSeconds else { return }
            }
            // Since when it is known stays: who was removed after that may have it.
            next.state = .active
            _ = try await node.replica.submit([.putStateKey(next)])
            node.say("flow state is sealed by secret \(next.number) from now on")
        } else if let old = state.stateKeys.values.first(where: { $0.state == .retiring }) {
            guard now - old.since > StateService.retiringSeconds else { return }
            _ = try await node.replica.submit([.deleteStateKey(old.number)])
        } else if let active = state.stateKeys.values.first(where: { $0.state == .active }),
            await isToBeReplaced(active, state, now)
        {
            try await installSecret(state)
        }
    }

    /// Whether who was removed knows what seals now, or nobody has it.
    private func isToBeReplaced(_ active: StateKeyRecord, _ state: ClusterState, _ now: Int64) async -> Bool {
        if state.removed.values.contains(where: { $0.at >= active.since }) { return true }
        guard keys[active.fingerprint] == nil, now - active.since > StateService.patienceSeconds else { return false }
        for other in state.nodes.values where other.id != node.replica.id {
            let has = try? await node.ask(other.id, .hasStateSecret, Array(active.fingerprint.utf8), seconds: 2)
            // Who can't be asked may have it.
            if has != [0] { return false }
        }
        return true
    }
}
