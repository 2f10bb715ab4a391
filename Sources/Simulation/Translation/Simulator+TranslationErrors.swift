// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// ICMP errors about translated packets: each side is told of the packet that it knows.
extension Simulator {
    /// An error goes to whoever sent the packet that it quotes, and quotes it as it was sent (RFC 5508 section 4).
    mutating func translateError(_ view: UnsafePointer<TranslationView>, _ place: FilterPlace) -> Bool {
        verdict.isCacheable = false
        guard let quoted else { return true }
        guard let asked = translatorForm(of: quoted) else { return true }
        guard key.ipDestination == quoted.source else { return true }
        if let floating = view.pointee.floating(key.ipDestination), floating.port == place.inPort {
            var inner = quoted
            inner.source = floating.target
            if isTracing {
                noteTranslation("error about \(quoted) is for \(floating.target), its floating address", place)
            }
            setDestination(floating.target, port: nil)
            self.quoted = inner
            translating.errorQuote = translatorForm(of: inner)
            return true
        }
        // Who answered it would say the reverse.
        guard let match = state.translation(asked.reversed, zone: place.device) else {
            verdict.missed.append(.translation(asked.reversed, zone: place.device))
            return true
        }
        let real = ConnectionTuple(
            source: match.original.source, destination: match.reply.source, sourcePort: match.original.sourcePort,
            destinationPort: match.reply.sourcePort, ipProtocol: match.original.ipProtocol)
        switch match.side {
        case .reply:
            setDestination(match.original.source, port: nil)
            set(quoted: real)
            translating.errorQuote = match.original
            if match.reply.source != match.original.destination { translating.errorSource = match.original.destination }
        case .original:
            setDestination(match.reply.source, port: nil)
            set(quoted: real.reversed)
            translating.errorQuote = match.reply
            if match.reply.destination != match.original.source { translating.errorSource = match.reply.destination }
        }
        if isTracing { noteTranslation("error about \(quoted), of \(match.original)", place) }
        return true
    }

    mutating func finishError(_ view: UnsafePointer<TranslationView>, _ place: FilterPlace) {
        verdict.isCacheable = false
        if let quote = translating.errorQuote {
            set(quoted: quote)
            if let source = translating.errorSource { setSource(source, port: nil) }
        } else if let quoted, let floating = view.pointee.floating(of: quoted.destination, port: place.outPort) {
            // It tells of a packet to a machine by its own name, which nobody out there knows.
            var inner = quoted
            inner.destination = floating.address
            self.quoted = inner
            setSource(floating.address, port: nil)
        } else {
            return
        }
        guard let quoted else { return }
        let carriesPorts = [IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp].contains(quoted.ipProtocol)
        var edit = verdict.edit ?? PayloadEdit()
        edit.quoted = EmbeddedPacket.Identity(
            source: quoted.source, destination: quoted.destination,
            ports: carriesPorts ? (quoted.sourcePort, quoted.destinationPort) : nil, queryID: queryID)
        verdict.edit = edit
    }

    /// Makes what the packet quotes that of a translator's tuple.
    private mutating func set(quoted tuple: ConnectionTuple) {
        var plain = tuple
        if tuple.ipProtocol == IPProtocol.icmp || tuple.ipProtocol == IPProtocol.icmpv6 {
            if tuple.destinationPort & TranslationForm.query != 0 {
                queryID = tuple.sourcePort
                (plain.sourcePort, plain.destinationPort) = (tuple.destinationPort & ~TranslationForm.query, 0)
            } else {
                queryID = tuple.destinationPort
                (plain.sourcePort, plain.destinationPort) = (0, tuple.sourcePort & ~TranslationForm.query)
            }
        }
        quoted = plain
    }
}
