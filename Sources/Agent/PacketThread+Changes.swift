// SPDX-License-Identifier: Apache-2.0
import Datapath
import FlowState
import Linux
import Simulation
import Synchronization
import Topology
import Wire

/// What changes and what time brings: new topologies, news of neighbors, flows that nobody uses.
extension PacketThread {
    package func wake(_ thread: any DatapathThread) {
        now = clock()
        let messages = mailbox.withLock { messages in
            let all = messages
            messages.removeAll()
            return all
        }
        for message in messages {
            switch message {
            case .epoch(let epoch, let changed, let reply):
                adopt(epoch, changed, thread)
                reply?.put(true)
            case .invalidate(let tags):
                decideAgain(flows.flows(with: tags), thread)
                resume(lot.take(tags), thread)
                decide(waiting.take(tags), isOver: false, thread)
                for tag in undecided.isEmpty ? [] : tags {
                    if let waited = undecided.removeValue(forKey: tag) { inherit(waited, thread) }
                }
            case .unknown(let tags): decide(waiting.take(unknown: tags, now: now), isOver: true, thread)
            case .arrival(let key): if installsStanding { installArrival(key, thread) }
            case .removeIdle(let of): if of == index { removeIdle(thread) }
            case .confirm(let expiring): confirm(expiring, thread)
            case .inherit(let inherited): inherit(inherited, thread)
            case .report(let reply): reply.put(report(thread))
            case .count(let reply): reply.put(counters)
            case .probe(let probes):
                for probe in probes { thread.execute(probe.actions, on: OwnedPacket(bytes: probe.frame)) }
            case .deliver(let frame, let port):
                guard let index = epoch.fabric.port(port) else { continue }
                send(frame, leaving: index, isService: true, thread, generation: 1)
            case .deliverAll(let frames, let port):
                guard let index = epoch.fabric.port(port) else { continue }
                for frame in frames { send(frame, leaving: index, isService: true, thread, generation: 1) }
            case .rules(let reply):
                readStatistics(thread)
                reply.put(
                    ruleCounts.sums.map { RuleReport(name: $0.key, packets: $0.value.packets, bytes: $0.value.bytes) })
            }
        }
        decide(waiting.takeDue(now: now), isOver: true, thread)
        removeProvisional(thread)
        releaseStrays(thread)
        advertise(thread)
        var silent: Set<Tag> = []
        for due in lot.due(now: now) {
            switch due {
            case .ask(let query): ask(query, thread)
            case .unreachable(let query, let packets):
                state.markUnreachable(query.address, port: query.port, now: now)
                silent.insert(query.tag)
                resume(packets, thread)
            }
        }
        if !silent.isEmpty { announce(silent) }
        if now >= nextExpiry {
            expire(thread)
            // Reading the counters of many flows takes its time: the longer, the less often.
            let took = clock() &- now
            nextExpiry = now &+ max(AgentLimits.expiryIntervalNanoseconds, took * AgentLimits.expiryShare)
            if index == 0 {
                let forgotten = state.expire(now: now)
                if !forgotten.isEmpty { announce(forgotten) }
                let expiring = state.expiring(now: now)
                if !expiring.isEmpty { broadcast(.confirm(expiring)) }
            }
        }
    }

    func adopt(_ epoch: Epoch, _ changed: Set<Tag>, _ thread: any DatapathThread) {
        if epoch.fabric.lineage != self.epoch.fabric.lineage {
            errorBudget.removeAll()
            logBudget.removeAll()
            answerBudget.removeAll()
            questionBudget.removeAll()
        }
        self.epoch = epoch
        ruleCounts.forgetPlaces()
        simulator = Simulator(fabric: epoch.fabric, state: state)
        noteAdvertisements()
        decideAgain(flows.flows(with: changed), thread)
        if installsStanding { installStanding(thread) }
        releaseStrays(thread)
        resume(lot.takeAll(), thread)
        let waited = undecided.values.flatMap(\.self)
        undecided.removeAll()
        inherit(waited, thread)
    }

    /// Installs what may arrive by tunnel before it does, and removes what may no longer. What stands already was decided
    /// again with the other flows that the change concerns.
    func installStanding(_ thread: any DatapathThread) {
        var gone = standing
        for number in epoch.tunnelPorts {
            for arrival in epoch.fabric.arrivals + [(TunnelKeys.probe, 0)] {
                var key = FlowKey()
                key.inPort = number.value
                key.tunnelID = UInt64(arrival.key)
                if arrival.vlan != 0 {
                    key.vlanTCI = arrival.vlan == Fabric.anyTag ? 0x1000 : 0x1000 | arrival.vlan
                    key.vlanTPID = EtherType.vlan
                }
                if epoch.absentPort(of: key) != nil { continue }
                if let id = gone.removeValue(forKey: Arrival(key)), flows.find(id) != nil { continue }
                let flow = standingFlow(key)
                standing[Arrival(key)] = flow.id
                install(flow, sample: key, thread, isStanding: true)
            }
        }
        if gone.isEmpty { return }
        for arrival in gone.keys { standing[arrival] = nil }
        // One flow may hold what was asked for twice.
        let wanted = Set(standing.values)
        for id in Set(gone.values) where !wanted.contains(id) {
            thread.remove(id)
            flows.remove(id)
        }
    }

    /// Installs what is done with what comes by tunnel as this did, on another thread, unless that is under way.
    private func installArrival(_ key: FlowKey, _ thread: any DatapathThread) {
        guard case .tunnel? = epoch.ingress(key.inPort) else { return }
        resimulate(key)
        guard simulator.verdict.drop != .unknownKey, simulator.verdict.isCacheable else { return }
        let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
        let flow = Flow(key: key, mask: mask, actions: actions)
        if flows.find(flow.id) == nil { install(flow, sample: key, thread) }
    }

    func standingFlow(_ key: FlowKey) -> Flow {
        if key.tunnelID == UInt64(TunnelKeys.probe) {
            simulator.simulateNothing()
            var mask = FlowMask()
            mask.include(.inPort)
            mask.include(.tunnelID)
            return Flow(key: key, mask: mask, actions: [.userspace(cookie: ActionCookies.probe)])
        }
        resimulate(key)
        let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
        return Flow(key: key, mask: mask, actions: actions)
    }

    /// Simulates from a key alone, as when a flow is decided again.
    func resimulate(_ key: FlowKey) {
        var layout = PacketLayout()
        layout.networkLength = 20
        let packet = SimulatedPacket(key: key, layout: layout, bytes: RawSpan(), length: 0)
        switch epoch.ingress(key.inPort) {
        case .exterior(let port): simulator.simulate(packet, at: port)
        case .tunnel: simulator.simulateArrival(packet, key: UInt32(truncatingIfNeeded: key.tunnelID))
        case nil: simulator.simulateNothing()
        }
    }

    /// Decides flows again: what is still right stays as it is, what changed is replaced in place, what can be no flow any
    /// more goes.
    func decideAgain(_ ids: [FlowID], _ thread: any DatapathThread) {
        for id in ids {
            guard let slot = flows.find(id) else { continue }
            let record = flows[slot]
            // What comes for a port that is not here is held for a while: a packet decides, not what was.
            guard epoch.ingress(record.sample.inPort) != nil, epoch.absentPort(of: record.sample) == nil else {
                thread.remove(id)
                flows.remove(id)
                continue
            }
            counters.simulated &+= 1
            resimulate(record.sample)
            if let query = waitedFor {
                // The flow goes on as it is until the neighbor answers, or does not.
                flows.retag(id, simulator.verdict.tags, own: simulator.verdict.ownTags)
                _ = lot.watch(query, now: now)
                sendGenerated(thread, generation: 0)
                continue
            }
            // No packet came: nothing begins by it and nothing is learned of it, and the next packet decides. The old port of a
            // station that went elsewhere would have it back, the new one in turn, without end. And what nobody here knows any
            // more the others may know: nobody was asked yet.
            // What was translated and is so no more may belong to a connection of the same ports that is just being told.
            let isForgotten = stateful[id]?.translations.isEmpty == false && lacksState
            if simulator.verdict.beginsConnection || teachesStation || missesState || isForgotten {
                thread.remove(id)
                flows.remove(id)
                continue
            }
            guard simulator.verdict.isCacheable || record.isStanding else {
                thread.remove(id)
                flows.remove(id)
                continue
            }
            let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
            var flow = Flow(key: record.sample, mask: mask, actions: actions)
            if flow.id != id {
                thread.remove(id)
                flows.remove(id)
                counters.replaced &+= 1
                if record.isStanding { standing[Arrival(record.sample)] = flow.id }
                install(flow, sample: record.sample, thread, isStanding: record.isStanding)
            } else {
                if flow.actions != record.actions {
                    counters.replaced &+= 1
                    thread.install(flow)
                }
                let way = ruleCounts.way(simulator.verdict.rules, epoch.fabric)
                flows.put(
                    &flow, sample: record.sample, now: now, isStanding: record.isStanding, tags: simulator.verdict.tags,
                    own: simulator.verdict.ownTags)
                flows.setWay(way, of: id)
                noteConnections(of: id)
                noteMissed(of: id)
            }
        }
    }

    /// Whether a packet as was simulated last would tell that a station is elsewhere than it was thought to be.
    private var teachesStation: Bool {
        simulator.verdict.learned.contains { learned in
            guard case .mac(let mac, let vlan, let bridge, let port) = learned else { return false }
            return state.port(of: mac, vlan: vlan, bridge: bridge) != port
        }
    }

    /// Decides flows of an earlier run again, from their keys. What comes out the same is installed over itself, which
    /// leaves no gap; the rest goes.
    func inherit(_ inherited: [InheritedFlow], _ thread: any DatapathThread) {
        for old in inherited {
            guard let id = old.id, flows.find(id) == nil else { continue }
            if epoch.ingress(old.key.inPort) != nil {
                resimulate(old.key)
                // Its packets were let through before: their connection goes on.
                if simulator.verdict.beginsConnection {
                    takeNote(thread, isPacket: false)
                    resimulate(old.key)
                }
                if simulator.verdict.isCacheable, simulator.verdict.wait == nil {
                    let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
                    let flow = Flow(key: old.key, mask: mask, actions: actions)
                    if flow.id == id {
                        install(flow, sample: old.key, thread)
                        flows.setStatistics(old.statistics, of: id)
                        continue
                    }
                }
                if let query = waitedFor, lot.watch(query, now: now) {
                    undecided[query.tag, default: []].append(old)
                    sendGenerated(thread, generation: 0)
                    continue
                }
            }
            thread.remove(id)
        }
    }

    func resume(_ packets: [ParkingLot.Parked], _ thread: any DatapathThread) {
        for parked in packets {
            switch parked.origin {
            case .leaving(let tag, let isRouted, let answers):
                guard let port = epoch.fabric.port(tag) else { continue }
                send(
                    parked.packet.bytes, leaving: port, isRouted: isRouted, answers: answers, thread, generation: 1)
            case .ingress(let tag):
                guard let port = epoch.fabric.port(tag) else { continue }
                resume(parked.packet, at: port, tag, thread)
            }
        }
    }

    /// Decides a packet that waited.
    ///
    /// - Parameter waited: how long it may wait yet for what other hosts know, and how often it did; `nil`: not again.
    /// - Returns: whether it waits for what other hosts know again.
    @discardableResult
    func resume(
        _ packet: OwnedPacket, at port: PortIndex, _ tag: Tag, _ thread: any DatapathThread,
        waited: (until: UInt64, times: Int)? = nil
    ) -> Bool {
        counters.simulated &+= 1
        var waits = false
        var key = packet.key
        packet.bytes.withUnsafeBytes { bytes in
            var layout = PacketLayout()
            key = packet.parsed(bytes, &layout)
            var attempts = 0
            repeat {
                simulator.simulate(
                    SimulatedPacket(
                        key: key, layout: layout, bytes: bytes.bytes,
                        length: layer3Length(layout, frameLength: bytes.count, offload: packet.offload)),
                    at: port)
                attempts += 1
                if attempts == 1, waited != nil, picksUp(key) || lacksState, mayWaitForState(tag) {
                    waits = true
                    return
                }
                if attempts == 1, picksUp(key), !mayPickUp { simulator.refuse(.notCaughtUp) }
                if givesAddress, !mayPickUp { simulator.refuse(.notCaughtUp) }
            } while !takeNote(thread, at: port) && attempts < AgentLimits.translationAttempts
        }
        if waits {
            waitForState(packet, tag, after: waited)
            return true
        }
        if simulator.verdict.wait != nil {
            park(packet, .ingress(tag))
        } else {
            let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
            let begins = simulator.verdict.beginsConnection
            if simulator.verdict.isCacheable, !begins, !isOpening(key) {
                install(Flow(key: key, mask: mask, actions: actions), sample: key, thread)
            }
            count(simulator.verdict, key, packet.bytes.count, at: port)
            var packet = packet
            simulator.verdict.edit?.apply(to: &packet.bytes)
            thread.execute(withoutCheck(actions), on: packet)
            sendGenerated(thread, generation: 0)
            guard begins else { return false }
            if key.ipProtocol == IPProtocol.tcp { key.tcpFlags |= TCPFlags.ack }
            resimulate(key)
            installKnown(key, thread)
            return false
        }
        sendGenerated(thread, generation: 0)
        return false
    }

    func ask(_ query: ParkingLot.Query, _ thread: any DatapathThread) {
        guard let port = epoch.fabric.port(query.port),
            let frame = epoch.fabric.request(for: query.address, from: port)
        else { return }
        send(frame, leaving: port, thread, generation: 1)
    }

    func expire(_ thread: any DatapathThread) {
        readStatistics(thread)
        keepConnections()
        idle.removeAll(keepingCapacity: true)
        flows.forEach { record in if isIdle(record) { idle.append(record.id) } }
        removeIdle(thread)
    }

    private func isIdle(_ record: borrowing FlowRecord) -> Bool {
        let used = max(record.installed, record.statistics.usedNanoseconds)
        return !record.isStanding && now > used &+ idleLimit(record.statistics.tcpFlags)
    }

    /// Removes flows that carry nothing, some at a time: after a flood there are many, and packets must not wait for all.
    func removeIdle(_ thread: any DatapathThread) {
        for id in idle.suffix(AgentLimits.removedAtOnce) {
            guard let slot = flows.find(id), isIdle(flows[slot]) else { continue }
            thread.remove(id)
            flows.remove(id)
            counters.expired &+= 1
        }
        idle.removeLast(min(idle.count, AgentLimits.removedAtOnce))
        if !idle.isEmpty { broadcast(.removeIdle(thread: index)) }
    }

    /// Reads what flows carried.
    private func readStatistics(_ thread: any DatapathThread) {
        thread.forEachFlow { id, statistics in
            let more = flows.setStatistics(statistics, of: id)
            ruleCounts.count(more.way, packets: more.packets, bytes: more.bytes)
        }
    }

    /// How long a flow may carry nothing. Connections that end leave nothing for it to carry.
    private func idleLimit(_ flags: UInt16) -> UInt64 {
        if flags & TCPFlags.rst != 0 { return AgentLimits.idleResetNanoseconds }
        return flags & TCPFlags.fin != 0 ? AgentLimits.idleEndedNanoseconds : AgentLimits.idleNanoseconds
    }

    /// Flows that would be decided otherwise now, for who looks into whole clusters: when all that was learned has been seen
    /// to, there are none.
    package func stale() -> [FlowReport] {
        var list: [FlowReport] = []
        var ids: [FlowID] = []
        flows.forEach { record in if !record.isStanding { ids.append(record.id) } }
        for id in ids {
            guard let slot = flows.find(id) else { continue }
            let record = flows[slot]
            resimulate(record.sample)
            if waitedFor != nil { continue }
            let (actions, mask) = ActionBuilder.actions(of: simulator.verdict, epoch)
            let isSame =
                !simulator.verdict.beginsConnection && actions == record.actions
                && Flow(key: record.sample, mask: mask, actions: actions).id == id
            if !isSame { list.append(FlowReport(record, mask: flows.mask(of: record), epoch: epoch, now: now)) }
        }
        return list
    }

    func report(_ thread: any DatapathThread) -> [FlowReport] {
        readStatistics(thread)
        var list: [FlowReport] = []
        flows.forEach { record in
            let record = copy record
            list.append(FlowReport(record, mask: flows.mask(of: record), epoch: epoch, now: now))
        }
        return list
    }
}
