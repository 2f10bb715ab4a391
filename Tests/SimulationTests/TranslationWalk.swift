// SPDX-License-Identifier: Apache-2.0
import Simulation
import Topology
import Wire

/// Packets from router to router, as the models of these say.
struct TranslationWalk {
    let room: TranslationRoom
    var models: [TranslationModel]

    init(_ topology: Topology, _ room: TranslationRoom, ill: Set<String>) {
        self.room = room
        models = room.routers.map { TranslationModel(topology, $0, ill: ill) }
    }

    /// Which router is where, and by which of its ports packets come.
    private struct Place: Hashable {
        var router: Int
        var port: String
    }

    private func next(_ place: Place, _ out: String) -> Place? {
        if place.router > 0, out == "g\(place.router)" { return Place(router: place.router - 1, port: name(place)) }
        let isUp = place.router < models.count - 1 && out == "g\(place.router + 2)"
        return isUp ? Place(router: place.router + 1, port: name(place)) : nil
    }

    private func name(_ place: Place) -> String { room.routers[place.router].path.name }

    /// What passes more routers goes round for ever.
    private static let hops = 20

    /// A packet out of a network. What routers let sources become, of what they may, is told by the verdict; that nobody else
    /// has it is not taken for granted. A packet that goes nowhere leaves nothing behind.
    mutating func send(
        _ key: FlowKey, _ tuple: ConnectionTuple, from: String, mayBegin: Bool, _ chosen: [TranslationUse]
    ) -> TranslationModel.Result {
        let before = models
        var place = Place(router: room.router(at: from), port: from)
        var (key, tuple) = (key, tuple)
        var hops = 0
        var seen = models.map { _ in 0 }
        while hops < TranslationWalk.hops {
            hops += 1
            seen[place.router] += 1
            let result = models[place.router].send(key, tuple, from: place.port, mayBegin: mayBegin)
            let out: String
            switch result {
            case .dropped:
                models = before
                return result
            case .own: return result
            case .sent(let network, let sent): (out, tuple) = (network, sent)
            case .masked(let network, let sent, let addresses, let ports):
                let zone = Simulation.Tag.router(room.routers[place.router].path)
                var mask = sent
                if let use = chosen.first(where: { $0.zone == zone && $0.original == tuple && $0.isNew }) {
                    (mask.source, mask.sourcePort) = (use.reply.destination, use.reply.destinationPort)
                } else {
                    // It was dropped, and if rightly so then behind this.
                    mask.source = addresses[0]
                    if !ports.contains(mask.sourcePort) { mask.sourcePort = ports.first }
                }
                guard addresses.contains(mask.source), ports.contains(mask.sourcePort),
                    !models[place.router].isTaken(mask)
                else {
                    // The same behind the same router again: that goes round for ever.
                    guard seen[place.router] > 1 else { return result }
                    models = before
                    return .dropped
                }
                models[place.router].connections.append(.init(original: tuple, reply: mask.reversed))
                (out, tuple) = (network, mask)
            }
            guard let further = next(place, out) else { return .sent(out, tuple) }
            place = further
            key = TranslationModel.header(key, tuple)
        }
        models = before
        return .dropped
    }

    /// A packet from one machine of a network to another.
    mutating func between(
        _ key: FlowKey, _ tuple: ConnectionTuple, in network: String, mayBegin: Bool, _ chosen: [TranslationUse]
    ) -> TranslationModel.Result {
        models[room.router(at: network)].between(network, tuple)
            ?? send(key, tuple, from: network, mayBegin: mayBegin, chosen)
    }

    /// An error out of a network.
    ///
    /// - Parameter isNeighborly: whether it goes to another machine there.
    func error(
        _ key: FlowKey, quoting quoted: ConnectionTuple, from: String, isNeighborly: Bool
    ) -> (TranslationModel.Result, ConnectionTuple) {
        if isNeighborly, let result = models[room.router(at: from)].between(from, key, quoting: quoted) {
            return result
        }
        var place = Place(router: room.router(at: from), port: from)
        var (key, quoted) = (key, quoted)
        var hops = 0
        while true {
            let (result, outer) = models[place.router].error(key, quoting: quoted, from: place.port)
            guard case .sent(let out, let tuple) = result, let further = next(place, out) else {
                return (result, outer)
            }
            hops += 1
            if hops >= TranslationWalk.hops { return (.dropped, outer) }
            place = further
            (key, quoted) = (TranslationModel.header(key, tuple), outer)
        }
    }
}
