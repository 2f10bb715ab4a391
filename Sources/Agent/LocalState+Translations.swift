// SPDX-License-Identifier: Apache-2.0
import Simulation
import Synchronization
import Topology
import Wire

/// Translated connections, the ports that this host may translate to, and fragments under way.
struct Translations: ~Copyable {
    var table = TranslationTable(seed: .random(in: .min ... .max), limit: AgentLimits.translations)
    var now: UInt64 = 0
    /// What first fragments said, until their packet's time is over.
    var fragments: [FragmentKey: (tuple: ConnectionTuple, expires: UInt64)] = [:]

    struct FragmentKey: Hashable {
        var name: FragmentName
        var zone: Tag
    }
}

extension LocalState {
    /// The translated connection of a packet.
    public func translation(_ tuple: ConnectionTuple, zone: Tag) -> TranslationMatch? {
        translations.withLock { $0.table.find(tuple, zone: zone, now: $0.now) }
    }

    /// What a source may become.
    public func source(for wish: SourceWish) -> SourceChoice {
        let (choice, isWanting) = translations.withLock { translations in
            (translations.table.choose(wish), translations.table.ports.isWanting)
        }
        if isWanting { onPortsWanted() }
        return choice
    }

    /// A port of its own machine that a source may keep or become.
    public func sourcePort(keeping tuple: ConnectionTuple, zone: Tag) -> UInt16? {
        translations.withLock { $0.table.port(keeping: tuple, zone: zone) }
    }

    /// What the first fragment of a packet said.
    public func fragment(_ name: FragmentName, zone: Tag) -> ConnectionTuple? {
        translations.withLock { translations in
            let found = translations.fragments[Translations.FragmentKey(name: name, zone: zone)]
            return found.flatMap { translations.now < $0.expires ? $0.tuple : nil }
        }
    }

    /// Takes note of a packet of a translated connection, or of packets that a flow carried.
    func learn(
        _ use: TranslationUse, _ flags: UInt16, isOwn: Bool, _ owner: ConnectionOwner?, now: UInt64
    ) -> Outcome {
        let (outcome, isWanting) = translations.withLock { translations in
            translations.now = max(translations.now, now)
            let noted = translations.table.note(
                use.original, use.reply, zone: use.zone, isReturn: use.isReturn, flags: flags, owner: owner,
                telling: isOwn ? AgentLimits.connectionTellNanoseconds : nil, now: now)
            let outcome: Outcome =
                switch noted {
                case .new: .news
                case .known(let isDue): .known(isDue: isDue)
                case .conflict: .conflict
                case .full: .refused
                }
            return (outcome, translations.table.ports.isWanting)
        }
        if isWanting { onPortsWanted() }
        return outcome
    }

    func learn(_ name: FragmentName, zone: Tag, _ tuple: ConnectionTuple, now: UInt64) -> Outcome {
        translations.withLock { translations in
            translations.now = max(translations.now, now)
            let key = Translations.FragmentKey(name: name, zone: zone)
            let isNew = translations.fragments[key] == nil
            if isNew, translations.fragments.count >= AgentLimits.fragments { return .refused }
            translations.fragments[key] = (tuple, now &+ AgentLimits.fragmentNanoseconds)
            return isNew ? .news : .known(isDue: false)
        }
    }

    /// Forgets what is past its time; the tags of it.
    func expireTranslations(now: UInt64) -> [Tag] {
        translations.withLock { translations in
            translations.now = max(translations.now, now)
            for (key, entry) in translations.fragments where entry.expires <= now { translations.fragments[key] = nil }
            return translations.table.expire(now: now, looking: AgentLimits.connectionsLookedAt)
        }
    }

    /// Translated connections that are known and meant, at most `limit` of them, in no order.
    public func translations(
        limit: Int, where isMeant: @Sendable (TranslationTable.Record) -> Bool
    ) -> [TranslationTable.Record] {
        translations.withLock { translations in
            var list: [TranslationTable.Record] = []
            translations.table.forEach { if list.count < limit, isMeant($0) { list.append($0) } }
            return list
        }
    }

    /// Translated connections that are known, and how many found no room.
    public var translationCount: (count: Int, refused: UInt64) {
        translations.withLock { ($0.table.count, $0.table.refused) }
    }

    /// Steps what is known of the ports that this host may translate to.
    public func withPorts<Result: Sendable>(_ body: (inout sending TranslationPorts) -> sending Result) -> Result {
        translations.withLock { translations in
            var ports = translations.table.ports
            translations.table.ports = TranslationPorts()
            let result = body(&ports)
            translations.table.ports = ports
            return result
        }
    }
}
