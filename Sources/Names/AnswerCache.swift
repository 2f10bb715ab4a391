// SPDX-License-Identifier: Apache-2.0
import DequeModule
import Simulation
import Wire

/// Answers of other servers, as long as they may be kept: so many of a tenant, and the oldest go first. Pure.
public struct AnswerCache: Sendable {
    /// What was asked, of whom and how.
    struct Key: Hashable, Sendable {
        var name: String
        var type: UInt16
        var recordClass: UInt16
        /// What an answer is different by: signatures, checks, and what is told of sizes.
        var flags: UInt8
        var resolvers: [IPAddress]

        init(_ question: NameQuestion) {
            let query = question.query
            name = query.name
            (type, recordClass, resolvers) = (query.type, query.recordClass, question.resolvers)
            flags = (query.wantsSignatures ? 1 : 0) | (query.checkingDisabled ? 2 : 0) | (query.size == nil ? 0 : 4)
        }
    }
    private struct Entry: Sendable {
        var reply: DNSReply
        /// Seconds.
        var taken: UInt64
        var expires: UInt64
        var serial: UInt64
    }
    private struct Share: Sendable {
        var entries: [Key: Entry] = [:]
        var order = Deque<(key: Key, serial: UInt64)>()
    }
    private var shares: [Tag: Share] = [:]
    private var serial: UInt64 = 0

    /// Answers of one tenant.
    public static let perTenant = 1024
    /// How long an answer is kept at most, seconds.
    public static let longest: UInt32 = 3600
    /// Bytes of the longest answer that is kept.
    public static let largest = 4096

    /// An empty one.
    public init() {}

    /// How many answers are kept.
    public var count: Int { shares.values.reduce(0) { $0 + $1.entries.count } }

    /// The answer to a question, if it was asked before.
    ///
    /// - Parameter now: seconds of a clock that only goes on.
    public func answer(to question: NameQuestion, now: UInt64) -> [UInt8]? {
        guard let entry = shares[question.tenant]?.entries[Key(question)], now < entry.expires else { return nil }
        return entry.reply.aged(UInt32(now - entry.taken), for: question.query)
    }

    /// Keeps an answer, if it may be kept.
    public mutating func note(_ reply: DNSReply, to question: NameQuestion, now: UInt64) {
        guard !reply.isTruncated, reply.code == 0 || reply.code == DNSQuery.Code.noName.rawValue,
            reply.bytes.count <= AnswerCache.largest, let seconds = reply.seconds, seconds > 0
        else { return }
        serial &+= 1
        let key = Key(question)
        var share = shares[question.tenant] ?? Share()
        share.entries[key] = Entry(
            reply: reply, taken: now, expires: now + UInt64(min(seconds, AnswerCache.longest)), serial: serial)
        share.order.append((key, serial))
        while share.entries.count > AnswerCache.perTenant || share.order.count > 2 * AnswerCache.perTenant {
            guard let oldest = share.order.popFirst() else { break }
            if share.entries[oldest.key]?.serial == oldest.serial { share.entries[oldest.key] = nil }
        }
        shares[question.tenant] = share
    }

    /// Forgets what is over.
    public mutating func expire(now: UInt64) {
        shares = shares.mapValues { share in
            var share = share
            share.entries = share.entries.filter { now < $0.value.expires }
            return share
        }.filter { !$0.value.entries.isEmpty }
    }
}
