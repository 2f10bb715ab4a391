// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// How far the router in hand has come in translating the packet.
struct TranslationProgress {
    /// Index of what it translates; -1: nothing.
    var view: Int32 = -1
    /// What the packet says to the translator, as it came.
    var tuple: ConnectionTuple?
    /// The connection that it belongs to.
    var match: TranslationMatch?
    /// Whether that was looked up.
    var isAsked = false
    /// Whether the destination was translated for a connection that begins.
    var isRedirected = false
    /// Whether it is one of a connection that asks a machine by its own name which others are redirected to.
    var isDirect = false
    /// Whether it was a floating address.
    var isFloating = false
    /// Whether the destination was translated without state: then the source stays.
    var isStatic = false
    /// The member of a pool that it goes to, and begins so.
    var balance: BalanceChoice?
    /// What an ICMP error is to say as it leaves: its source, and what it quotes.
    var errorSource: IPAddress?
    var errorQuote: ConnectionTuple?
}

/// Translation in routers: of destinations as packets come, of sources as they leave. In between packets say what the
/// machines are really called, whichever way they go.
///
/// Rules are asked packet by packet, in as many fields as they need; connections are looked up only where a rule applies
/// or an address is one that answers come to, so that everything else keeps its wide flows.
extension Simulator {
    // MARK: - As packets come

    /// Translates the destination. False when the packet ends here.
    mutating func translateDestination(_ place: FilterPlace, _ packet: borrowing SimulatedPacket) -> Bool {
        translating = TranslationProgress(view: translating.view)
        guard let view = fabric.tables.policy.translations[Int(translating.view)] else { return true }
        verdict.mask.include(.ipProtocol)
        verdict.mask.include(.ipFragment)
        let isLater = key.ipFragment == FragmentKind.later
        if isICMP, !isLater {
            verdict.mask.include(.sourcePort)
            if Self.isError(UInt8(truncatingIfNeeded: key.sourcePort), key.etherType == EtherType.ipv6) {
                return translateError(view, place)
            }
        }
        let (mayReturn, bits) = view.pointee.returns.holds(key.ipDestination)
        verdict.mask.includeDestination(prefix: rounded(bits, key.ipDestination.family.width))
        if mayReturn { verdict.mask.includeDestination(prefix: 128) }
        let floating = mayReturn ? view.pointee.floating(key.ipDestination) : nil
        if let floating, floating.port == place.inPort {
            if isTracing {
                noteTranslation("destination \(key.ipDestination) is \(floating.target), its floating address", place)
            }
            setDestination(floating.target, port: nil)
            translating.isStatic = true
            return true
        }
        if isLater {
            guard lookUpFragment(place, packet) else { return true }
        } else if mayReturn || isRedirected(view) {
            guard lookUp(place, packet) else { return false }
        }
        if let match = translating.match, !mayBeginAnew(match) { return apply(match, place) }
        if let floating {
            guard lookUp(place, packet) else { return false }
            if let match = translating.match { return apply(match, place) }
            return redirect(to: floating.target, port: nil, isFloating: true, "its floating address", place)
        }
        guard case .translate(let index) = run(view.pointee.destinationChain, place, 0) else {
            if let match = translating.match { return apply(match, place) }
            return isLater || noteDirect(view, place, packet)
        }
        guard !isLater else { return refuse(.fragmentUnknown, place) }
        guard lookUp(place, packet) else { return false }
        let target = view.pointee.targets[Int(index)]
        if let match = translating.match {
            guard target.kind == .pool, mayBeginAnew(match) else { return apply(match, place) }
            // It is chosen for like any other that begins: the member of the last one may be down by now.
            translating.match = nil
        }
        if target.kind == .pool { return balance(target.pool, place, packet) }
        guard target.first.family == key.ipDestination.family else { return true }
        return redirect(to: target, place)
    }

    /// Whether the packet begins another connection on the ports of one that ends.
    private func mayBeginAnew(_ match: TranslationMatch) -> Bool {
        match.isEnding && match.side == .original && isOpening
    }

    /// Whether the packet may be the answer of a machine that connections are redirected to.
    private mutating func isRedirected(_ view: UnsafePointer<TranslationView>) -> Bool {
        let (isMember, bits) = view.pointee.redirected.holds(key.ipSource)
        verdict.mask.includeSource(prefix: isMember ? 128 : rounded(bits, key.ipSource.family.width))
        return isMember
    }

    /// Takes note of a connection that asks a machine by its own name which others are redirected to: the machine's answers to
    /// both look alike, so that they must be told apart. False when the packet ends here.
    private mutating func noteDirect(
        _ view: UnsafePointer<TranslationView>, _ place: FilterPlace, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        let (isMember, bits) = view.pointee.redirected.holds(key.ipDestination)
        verdict.mask.includeDestination(prefix: isMember ? 128 : rounded(bits, key.ipDestination.family.width))
        guard isMember, hasPorts else { return true }
        verdict.mask.include(.destinationPort)
        guard view.pointee.isTarget(key.ipDestination, key.destinationPort, key.ipProtocol) else { return true }
        guard lookUp(place, packet) else { return false }
        if let match = translating.match { return apply(match, place) }
        guard mayBegin else { return true }
        translating.isDirect = true
        translating.isRedirected = true
        return true
    }

    private mutating func redirect(to target: TargetRecord, _ place: FilterPlace) -> Bool {
        // The same client comes to the same target, from any port.
        let hash = mix(key.ipSource.high ^ 0x5e1f, key.ipSource.low)
        let address = target.address(Int(truncatingIfNeeded: hash >> 33) % target.count)
        var port: UInt16?
        if target.hasPorts {
            let count = Int(target.ports.last) - Int(target.ports.first) + 1
            let offset =
                target.base >= 0
                ? Int(key.destinationPort) - Int(target.base) : Int(truncatingIfNeeded: hash >> 17) & 0xffff
            port = target.ports.first &+ UInt16(truncatingIfNeeded: ((offset % count) + count) % count)
        }
        return redirect(to: address, port: port, isFloating: false, "new", place)
    }

    /// Translates the destination of a connection that begins.
    mutating func redirect(
        to address: IPAddress, port: UInt16?, isFloating: Bool, _ why: @autoclosure () -> String, _ place: FilterPlace
    ) -> Bool {
        guard mayBegin, translating.tuple != nil else { return refuse(.noTranslation, place) }
        if isTracing {
            noteTranslation(
                "destination \(name(key.ipDestination, key.destinationPort)) is \(name(address, port)), \(why())", place
            )
        }
        translating.isRedirected = true
        translating.isFloating = isFloating
        setDestination(address, port: port)
        return true
    }

    /// Gives the packet the destination that its connection says.
    private mutating func apply(_ match: TranslationMatch, _ place: FilterPlace) -> Bool {
        switch match.side {
        case .original:
            setDestination(match.reply.source, port: match.reply.sourcePort)
        case .reply:
            setDestination(match.original.source, port: match.original.sourcePort)
        }
        if isTracing {
            let text = match.side == .reply ? "return of" : "packet of"
            noteTranslation("\(text) \(match.original), here \(match.reply.reversed)", place)
        }
        use(match.original, match.reply, isNew: false, isReturn: match.side == .reply, place)
        return true
    }

    // MARK: - As packets leave

    /// Translates the source, once it is known where the packet goes. False when the packet ends here.
    mutating func translateSource(
        _ place: FilterPlace, toward next: IPAddress, _ packet: borrowing SimulatedPacket
    ) -> Bool {
        guard let view = fabric.tables.policy.translations[Int(translating.view)] else { return true }
        if isICMP, key.ipFragment != FragmentKind.later,
            Self.isError(UInt8(truncatingIfNeeded: key.sourcePort), key.etherType == EtherType.ipv6)
        {
            finishError(view, place)
            return true
        }
        if translating.isStatic { return true }
        if let match = translating.match { return finish(match, place) }
        let (isHidden, bits) = view.pointee.hidden.holds(key.ipSource)
        verdict.mask.includeSource(prefix: rounded(bits, key.ipSource.family.width))
        if isHidden {
            verdict.mask.includeSource(prefix: 128)
            if !translating.isRedirected || translating.isDirect,
                let floating = view.pointee.floating(of: key.ipSource, port: place.outPort)
            {
                if isTracing {
                    noteTranslation("source \(key.ipSource) becomes \(floating.address), its floating address", place)
                }
                setSource(floating.address, port: nil)
                return true
            }
            if !translating.isRedirected, !translating.isAsked {
                guard lookUp(place, packet, isLate: true) else { return false }
                if let match = translating.match { return finish(match, place) }
            }
        }
        // Members are checked from the router's own address, as they see it: they need no way to who checks.
        let isCheck = fabric.ports[Int(place.inPort)].isMonitor
        let target: TargetRecord?
        if isCheck {
            target = nil
        } else if case .translate(let index) = run(view.pointee.sourceChain, place, 0) {
            target = view.pointee.targets[Int(index)]
        } else {
            target = nil
        }
        if target == nil, !translating.isRedirected, !isCheck { return true }
        guard key.ipFragment != FragmentKind.later else { return refuse(.fragmentUnknown, place) }
        if !translating.isAsked {
            guard lookUp(place, packet, isLate: true) else { return false }
            if let match = translating.match { return finish(match, place) }
        }
        return begin(target, view, place, toward: next)
    }

    /// Translates the source of a connection that begins, if it is to be, and proposes the connection.
    private mutating func begin(
        _ target: TargetRecord?, _ view: UnsafePointer<TranslationView>, _ place: FilterPlace, toward next: IPAddress
    ) -> Bool {
        guard var tuple = translating.tuple else { return refuse(.notTranslatable, place) }
        guard mayBegin else { return refuse(.noTranslation, place) }
        let original = tuple
        tuple.destination = key.ipDestination
        if hasPorts { tuple.destinationPort = key.destinationPort }
        let wish: SourceWish?
        if translating.isFloating, let floating = view.pointee.floating(of: key.ipSource, port: nil),
            place.inPort == place.outPort || target == nil
        {
            // Whoever asks a floating address from inside is seen by its own.
            return propose(original, tuple, source: floating.address, port: nil, "its floating address", place)
        } else if let target {
            wish = self.wish(target, tuple, place, toward: next)
            if wish == nil { return refuse(.notTranslatable, place) }
        } else if place.inPort == place.outPort && !translating.isDirect || fabric.ports[Int(place.inPort)].isMonitor {
            // The answer would go straight back, and say another source than was asked: a hairpin.
            if let port = neighborPort(view, place, tuple, of: original, toward: next) {
                return propose(original, tuple, source: tuple.source, port: port, "a neighbor", place)
            }
            wish = masquerade(tuple, .translation, place, toward: next)
        } else {
            wish = nil
        }
        guard let wish else {
            // The client may have a connection to the same target by another of its addresses.
            guard let port = state.sourcePort(keeping: tuple, of: original, zone: place.device) else {
                return refuse(.portsExhausted, place)
            }
            let isSame = port == tuple.sourcePort
            return propose(
                original, tuple, source: isSame ? nil : tuple.source, port: port, "another of its ports", place)
        }
        // What has neither ports nor an identifier could not be told apart.
        guard hasPorts || queryID != nil else { return refuse(.notTranslatable, place) }
        switch state.source(for: wish) {
        case .found(let address, let port): return propose(original, tuple, source: address, port: port, "new", place)
        case .pending, .exhausted: return refuse(.portsExhausted, place)
        }
    }

    private mutating func wish(
        _ target: TargetRecord, _ tuple: ConnectionTuple, _ place: FilterPlace, toward next: IPAddress
    ) -> SourceWish? {
        if target.kind == .masquerade { return masquerade(tuple, target.ports, place, toward: next) }
        guard target.first.family == tuple.source.family else { return nil }
        return SourceWish(
            zone: place.device, tuple: tuple, first: target.first, count: target.count, ports: target.ports)
    }

    private mutating func masquerade(
        _ tuple: ConnectionTuple, _ ports: PortRange, _ place: FilterPlace, toward next: IPAddress
    ) -> SourceWish? {
        let port = fabric.ports[Int(place.outPort)]
        let own = fabric.addresses[Int(port.addressStart)..<Int(port.addressStart + port.addressCount)]
        guard
            let address = own.first(where: { $0.network.contains(next) })
                ?? own.first(where: { $0.address.family == tuple.source.family })
        else { return nil }
        return SourceWish(zone: place.device, tuple: tuple, first: address.address, count: 1, ports: ports)
    }

    private mutating func propose(
        _ original: ConnectionTuple, _ tuple: ConnectionTuple, source: IPAddress?, port: UInt16?, _ why: String,
        _ place: FilterPlace
    ) -> Bool {
        var reply = tuple.reversed
        if let source {
            reply.destination = source
            if let port { reply.destinationPort = port }
            if isTracing {
                noteTranslation(
                    "source \(name(tuple.source, tuple.sourcePort)) becomes \(name(source, port)), \(why)", place)
            }
            setSource(source, port: port)
        }
        use(original, reply, isNew: true, isReturn: false, place)
        return true
    }

    /// Gives the packet the source that its connection says.
    private mutating func finish(_ match: TranslationMatch, _ place: FilterPlace) -> Bool {
        switch match.side {
        case .original: setSource(match.reply.destination, port: match.reply.destinationPort)
        case .reply: setSource(match.original.destination, port: match.original.destinationPort)
        }
        return true
    }

    // MARK: - Connections

    var isICMP: Bool {
        mutating get {
            key.ipProtocol == (key.etherType == EtherType.ipv6 ? IPProtocol.icmpv6 : IPProtocol.icmp)
        }
    }

    /// Whether the packet may be the first of its connection.
    private var mayBegin: Bool {
        mutating get {
            if key.ipProtocol == IPProtocol.tcp {
                readFlags()
                verdict.mask.bits.words[9] |= 0x04 << 48
                return key.tcpFlags & 0x04 == 0
            }
            if isICMP {
                let type = UInt8(truncatingIfNeeded: key.sourcePort)
                return Self.queryPorts(type, key.etherType == EtherType.ipv6).map { $0.0 != 0 } ?? false
            }
            return true
        }
    }

    /// Looks up the packet's connection. False when the packet ends here.
    ///
    /// - Parameter isLate: whether the destination may have been translated: what came in counts.
    mutating func lookUp(
        _ place: FilterPlace, _ packet: borrowing SimulatedPacket, isLate: Bool = false
    ) -> Bool {
        if translating.isAsked { return true }
        translating.isAsked = true
        verdict.mask.includeSource(prefix: 128)
        verdict.mask.includeDestination(prefix: 128)
        var tuple = ConnectionTuple(
            source: key.ipSource, destination: key.ipDestination, sourcePort: 0, destinationPort: 0,
            ipProtocol: key.ipProtocol)
        if hasPorts {
            verdict.mask.include(.sourcePort)
            verdict.mask.include(.destinationPort)
            (tuple.sourcePort, tuple.destinationPort) = (key.sourcePort, key.destinationPort)
            readFlags()
        } else if isICMP {
            // No flow tells identifiers apart.
            verdict.isCacheable = false
            verdict.mask.include(.sourcePort)
            let type = UInt8(truncatingIfNeeded: key.sourcePort)
            guard let ports = Self.queryPorts(type, key.etherType == EtherType.ipv6) else { return true }
            // A flow that is decided again has no packet at hand: it goes, and the next packet decides.
            guard queryID != nil else { return refuse(.noTranslation, place) }
            (tuple.sourcePort, tuple.destinationPort) = ports
            guard let form = translatorForm(of: tuple) else { return true }
            tuple = form
        }
        translating.tuple = tuple
        for use in verdict.translations where use.zone == place.device && use.original == tuple && use.isNew {
            // The packet comes by twice.
            return refuse(.loop, place)
        }
        verdict.ownTags.append(.translation(tuple, zone: place.device))
        translating.match = state.translation(tuple, zone: place.device)
        if translating.match == nil, !isOpening { verdict.missed.append(.translation(tuple, zone: place.device)) }
        if let match = translating.match, isLate {
            // Its destination should have been translated: the rule for that is gone, and with it the connection.
            let kept =
                match.side == .original
                ? match.reply.source == key.ipDestination
                : match.side == .reply
                    && match.original.source == key.ipDestination
            if kept {
                use(match.original, match.reply, isNew: false, isReturn: match.side == .reply, place)
            } else {
                translating.match = nil
            }
        }
        if key.ipFragment == FragmentKind.first, let name = fragmentName(packet) {
            verdict.isCacheable = false
            verdict.learned.append(.fragment(name, zone: place.device, tuple: tuple))
        }
        return true
    }

    /// A tuple as connections of translators have it: ICMP queries with their identifier as the asker's port, and their
    /// type, marked, as the other's.
    mutating func translatorForm(of tuple: ConnectionTuple) -> ConnectionTuple? {
        guard tuple.ipProtocol == IPProtocol.icmp || tuple.ipProtocol == IPProtocol.icmpv6 else { return tuple }
        guard let queryID else { return nil }
        var form = tuple
        if tuple.sourcePort != 0 {
            (form.sourcePort, form.destinationPort) = (queryID, TranslationForm.query | tuple.sourcePort)
        } else {
            (form.sourcePort, form.destinationPort) = (TranslationForm.query | tuple.destinationPort, queryID)
        }
        return form
    }

    private mutating func use(
        _ original: ConnectionTuple, _ reply: ConnectionTuple, isNew: Bool, isReturn: Bool, _ place: FilterPlace
    ) {
        var use = TranslationUse(
            zone: place.device, original: original, reply: reply, isNew: isNew, isReturn: isReturn)
        if isNew { use.balance = translating.balance }
        verdict.translations.append(use)
    }

    mutating func refuse(_ reason: DropReason, _ place: FilterPlace) -> Bool {
        verdict.isCacheable = false
        drop(reason, at: place.inPort)
        return false
    }

}

/// How ICMP queries stand in tuples of translators.
public enum TranslationForm {
    /// Marks a type of ICMP query where a port would be.
    static let query: UInt16 = 0x8000
}
