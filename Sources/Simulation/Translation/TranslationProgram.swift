// SPDX-License-Identifier: Apache-2.0
import Topology
import Wire

/// What a router translates, as the simulation reads it: plain pointers into memory that its ``TranslationProgram`` owns.
struct TranslationView {
    /// Lists of rules among the compiled chains: for destinations as packets come, for sources as they leave.
    var destinationChain: Int32
    var sourceChain: Int32
    /// What the lists' rules translate to.
    var targets: UnsafePointer<TargetRecord>
    /// Floating addresses in order of address, then in order of target.
    var floatingByAddress: UnsafePointer<FloatingRecord>
    var floatingByTarget: UnsafePointer<FloatingRecord>
    var floatingCount: Int
    /// Addresses that packets may come back to.
    var returns: AddressGroupView
    /// Addresses that packets come back from which have to say another source: targets of rules, and those and machines
    /// with floating addresses.
    var redirected: AddressGroupView
    var hidden: AddressGroupView
    /// Addresses besides its own that the router answers for in its networks.
    var answered: AddressGroupView
    /// Hashes of machines and ports that connections are redirected to, where the ports are known; in order.
    var ports: UnsafePointer<UInt64>
    var portCount: Int
    /// Whether there are others that are not told apart.
    var isCut: Bool
}

/// What a rule translates to.
struct TargetRecord {
    enum Kind: UInt8 { case destination, source, masquerade, pool }
    var kind: Kind
    /// Whether the destination's port is changed.
    var hasPorts: Bool
    /// Place of the rule in its router's list; virtual addresses are behind the rules.
    var rule: Int32
    var first: IPAddress
    var count: Int
    var ports: PortRange
    /// The first port that the rule is for, where ports are translated one to one.
    var base: Int32
    /// The pool, where it is one; -1: it is not there.
    var pool: Int32 = -1
}

/// A floating address.
struct FloatingRecord {
    var address: IPAddress
    var target: IPAddress
    /// The router's port towards those who use it; -1: it is not there.
    var port: Int32
}

/// A router's translations, compiled.
final class TranslationProgram: @unchecked Sendable {  // written in `init` only, freed in `deinit` only
    /// What is to be known of a router's port.
    struct RouterPort {
        var index: Int32
        var name: String
        var addresses: [InterfaceAddress]
    }

    let view: UnsafePointer<TranslationView>
    let destinationList: ChainProgram
    let sourceList: ChainProgram
    private let sets: [AddressGroupProgram]
    private let memory: [UnsafeMutableRawPointer]

    init(
        _ router: Router, _ ports: [RouterPort], chains: (destination: Int32, source: Int32),
        group: (String) -> Int32, pool: (String) -> (index: Int32, members: [PoolMember])
    ) {
        let translation = router.translation
        var targets: [TargetRecord] = []
        var destinationLines: [ChainSource.Line] = []
        var sourceLines: [ChainSource.Line] = []
        var returns: Set<Prefix> = []
        var redirected: Set<Prefix> = []
        var hidden: Set<Prefix> = []
        var known: Set<UInt64> = []
        // They come first: rules are for what is nobody's.
        for (place, virtual) in translation.virtual.enumerated() {
            let (index, members) = pool(virtual.pool)
            for member in members {
                redirected.insert(Prefix(member.address, length: member.address.family.width))
                let range = member.port.map { [PortRange($0, $0)] } ?? virtual.ports.sorted()
                if known.count > TranslationView.targetsPerRouter { continue }
                known.formUnion(TranslationView.targets(member.address, range, virtual.ipProtocol))
            }
            destinationLines.append(
                ChainSource.Line(
                    place: translation.rules.count + place, condition: virtual.condition, action: .translate,
                    target: Int32(targets.count)))
            targets.append(
                TargetRecord(
                    kind: .pool, hasPorts: true, rule: Int32(translation.rules.count + place), first: virtual.address,
                    count: 1, ports: PortRange(0, 0), base: -1, pool: index))
        }
        for (place, rule) in translation.rules.enumerated() {
            var line = ChainSource.Line(
                place: place, condition: rule.condition, action: .translate, target: Int32(targets.count))
            switch rule.action {
            case .accept:
                line.action = .accept
                destinationLines.append(line)
                sourceLines.append(line)
            case .destination(let target):
                destinationLines.append(line)
                targets.append(TargetRecord(target, place, rule.condition))
                if let range = target.ports, let ip = rule.condition.ipProtocol, !ip.isInverted {
                    for number in 0..<target.count where known.count <= TranslationView.targetsPerRouter {
                        known.formUnion(TranslationView.targets(target.address(number), [range], ip.value))
                    }
                }
                redirected.formUnion(target.prefixes)
            case .source(let target):
                sourceLines.append(line)
                targets.append(TargetRecord(target, .source, place))
                returns.formUnion(target.prefixes)
            case .masquerade(let ports):
                sourceLines.append(line)
                // The address is found where the packet leaves.
                targets.append(
                    TargetRecord(
                        TranslationTarget(.init(high: 0, low: 0, family: .ipv4), ports: ports), .masquerade, place))
            }
        }
        for port in ports {
            for address in port.addresses {
                returns.insert(Prefix(address.address, length: address.address.family.width))
            }
        }
        let floating = translation.floating.map { entry in
            let port = ports.first { port in
                entry.port.map { $0 == port.name } ?? port.addresses.contains { $0.network.contains(entry.address) }
            }
            let width = entry.address.family.width
            returns.insert(Prefix(entry.address, length: width))
            hidden.insert(Prefix(entry.target, length: width))
            return FloatingRecord(address: entry.address, target: entry.target, port: port?.index ?? -1)
        }
        destinationList = ChainProgram(
            ChainSource(router.path, destinationLines, group: group), tag: .router(router.path), kind: .translation)
        sourceList = ChainProgram(
            ChainSource(router.path, sourceLines, group: group), tag: .router(router.path), kind: .translation)
        let programs = [
            returns, redirected, hidden.union(redirected),
            Set(translation.answered.map { Prefix($0, length: $0.family.width) }),
        ].map { AddressGroupProgram(.router(router.path), $0) }
        var memory: [UnsafeMutableRawPointer] = []
        // Plain values without references.
        func keep<Element>(_ list: [Element]) -> UnsafePointer<Element> {
            let pointer = UnsafeMutablePointer<Element>.allocate(capacity: max(1, list.count))
            pointer.initialize(from: list, count: list.count)
            memory.append(UnsafeMutableRawPointer(pointer))
            return UnsafePointer(pointer)
        }
        let made = TranslationView(
            destinationChain: chains.destination, sourceChain: chains.source, targets: keep(targets),
            floatingByAddress: keep(floating.sorted { $0.address < $1.address }),
            floatingByTarget: keep(floating.sorted { ($0.target, $0.port) < ($1.target, $1.port) }),
            floatingCount: floating.count, returns: programs[0].view, redirected: programs[1].view,
            hidden: programs[2].view, answered: programs[3].view, ports: keep(known.sorted()),
            portCount: known.count, isCut: known.count > TranslationView.targetsPerRouter)
        view = keep([made])
        sets = programs
        self.memory = memory
    }

    deinit { for pointer in memory { pointer.deallocate() } }
}

extension TargetRecord {
    fileprivate init(_ target: TranslationTarget, _ kind: Kind, _ place: Int) {
        self.init(
            kind: kind, hasPorts: true, rule: Int32(place), first: target.first, count: target.count,
            ports: target.ports ?? .translation, base: -1)
    }

    fileprivate init(_ target: TranslationTarget, _ place: Int, _ condition: Condition) {
        let ports = target.ports ?? PortRange(0, 0)
        // A range to a range of the same size: port by port.
        var base: Int32 = -1
        if let match = condition.destinationPorts, !match.isInverted, !condition.isInverted, match.value.count == 1,
            let range = match.value.first, range.last - range.first == ports.last - ports.first
        {
            base = Int32(range.first)
        }
        self.init(
            kind: .destination, hasPorts: target.ports != nil, rule: Int32(place), first: target.first,
            count: target.count, ports: ports, base: base)
    }

    /// One of the addresses.
    func address(_ index: Int) -> IPAddress { first.advanced(by: index) }
}

extension TranslationTarget {
    /// Its addresses as prefixes.
    var prefixes: Set<Prefix> { Set((0..<count).map { Prefix(address($0), length: first.family.width) }) }
}

extension TranslationView {
    /// Whether connections are redirected to a port of a machine.
    func isTarget(_ address: IPAddress, _ port: UInt16, _ ipProtocol: UInt8) -> Bool {
        if portCount == 0 { return false }
        let wanted = TranslationView.target(address, port, ipProtocol)
        var (low, high) = (0, portCount)
        while low < high {
            let middle = (low + high) / 2
            if ports[middle] < wanted { low = middle + 1 } else { high = middle }
        }
        return low < portCount && ports[low] == wanted
    }

    /// Whether connections may be redirected to a port of a machine that they are redirected to.
    func mayBeTarget(_ address: IPAddress, _ port: UInt16, _ ipProtocol: UInt8) -> Bool {
        isCut || isTarget(address, port, ipProtocol)
    }

    /// Ports of one target that are told apart, at most: of more, connections that ask by the machine's own name are not noted.
    static let portsPerTarget = 64
    /// Targets of one router that are told apart, about: of more, likewise.
    static let targetsPerRouter = 32_768

    static func targets(_ address: IPAddress, _ ranges: [PortRange], _ ipProtocol: UInt8) -> [UInt64] {
        guard ranges.reduce(0, { $0 + Int($1.last) - Int($1.first) + 1 }) <= portsPerTarget else { return [] }
        return ranges.flatMap { range in (range.first...range.last).map { target(address, $0, ipProtocol) } }
    }

    private static func target(_ address: IPAddress, _ port: UInt16, _ ipProtocol: UInt8) -> UInt64 {
        // They are one router's.
        RedirectedCounts.key(address, port, ipProtocol, Tag(bits: UInt64(address.family.rawValue)))
    }

    /// The floating address of its name.
    func floating(_ address: IPAddress) -> FloatingRecord? {
        var (low, high) = (0, floatingCount)
        while low < high {
            let middle = (low + high) / 2
            if floatingByAddress[middle].address < address { low = middle + 1 } else { high = middle }
        }
        return low < floatingCount && floatingByAddress[low].address == address ? floatingByAddress[low] : nil
    }

    /// The floating address of a machine towards a port; towards any, the first.
    func floating(of target: IPAddress, port: Int32?) -> FloatingRecord? {
        var (low, high) = (0, floatingCount)
        while low < high {
            let middle = (low + high) / 2
            if floatingByTarget[middle].target < target { low = middle + 1 } else { high = middle }
        }
        while low < floatingCount, floatingByTarget[low].target == target {
            if port == nil || floatingByTarget[low].port == port { return floatingByTarget[low] }
            low += 1
        }
        return nil
    }
}

extension AddressGroupView {
    /// Whether it holds an address, and how many leading bits of it say so.
    func holds(_ address: IPAddress) -> (isMember: Bool, bits: Int) {
        if address.family == .ipv4 {
            let index = narrow.find(address.high)
            return ((index % 2 == 0) == beginsNarrow, narrow.bits4(address.high, index))
        }
        let index = wide.find((address.high, address.low))
        return ((index % 2 == 0) == beginsWide, wide.bits6((address.high, address.low), index))
    }
}

/// Views of translations. They are valid as long as the ``PolicyTables`` that they lie in, or a copy of it.
struct TranslationViews: @unchecked Sendable {  // what they point to is never written
    private var views: [UnsafePointer<TranslationView>?] = []
    @inline(__always)
    subscript(_ index: Int) -> UnsafePointer<TranslationView>? {
        get { views[index] }
        set { views[index] = newValue }
    }
    mutating func append(_ view: UnsafePointer<TranslationView>?) { views.append(view) }
}
