// SPDX-License-Identifier: Apache-2.0
import HashTreeCollections
import Topology
import Wire

/// Chains and address groups, compiled. What changes is compiled again, the rest is shared with the tables before.
struct PolicyTables: Sendable {
    /// What the simulation reads, by index. The programs own what they point to.
    var chains = ChainViews()
    var groups = GroupViews()
    var programs: [ChainProgram?] = []
    var groupPrograms: [AddressGroupProgram] = []
    var indexOfChain = TreeDictionary<DevicePath, Int32>()
    var indexOfGroup = TreeDictionary<DevicePath, Int32>()
    /// What routers translate, by index.
    private(set) var translations = TranslationViews()
    private var translationPrograms: [TranslationProgram?] = []
    private var indexOfTranslation = TreeDictionary<DevicePath, Int32>()
    /// Pools of servers, by index.
    private var pools: [PoolProgram?] = []
    private var pathOfPool: [DevicePath] = []
    private var indexOfPool = TreeDictionary<DevicePath, Int32>()
    /// Words of a bitmap of the largest chain.
    var words = 0

    /// Security groups.
    var security = SecurityTables()

    init() {}

    /// The chain of a name; -1 where there is none.
    func chain(_ name: String?, of tenant: String) -> Int32 {
        guard let name else { return -1 }
        return indexOfChain[DevicePath(tenant: tenant, name: name)] ?? -1
    }

    /// What a chain is made of.
    func kind(_ chain: Int32) -> ChainProgram.Kind { programs[Int(chain)]?.kind ?? .chain }

    /// The path of a chain, or of the router whose list it is.
    func path(_ chain: Int32) -> DevicePath? { programs[Int(chain)]?.path }

    /// Gives a group what it is compiled to; its place stays.
    mutating func put(_ program: AddressGroupProgram, at path: DevicePath) {
        if let index = indexOfGroup[path] {
            groupPrograms[Int(index)] = program
            groups[Int(index)] = program.view
        } else {
            indexOfGroup[path] = Int32(groupPrograms.count)
            groupPrograms.append(program)
            groups.append(program.view)
        }
    }

    /// Gives each chain and group a place, then compiles those that are new or changed.
    mutating func update(_ topology: Topology, chains changed: Set<DevicePath>, groups changedGroups: Set<DevicePath>) {
        for path in changedGroups.sorted() {
            guard let group = topology.addressGroups[path] else {
                // Who asked for it is compiled without it; the place is left.
                indexOfGroup[path] = nil
                continue
            }
            put(AddressGroupProgram(group), at: path)
        }
        for path in changed.sorted() {
            if topology.chains[path] == nil {
                indexOfChain[path] = nil
            } else if indexOfChain[path] == nil {
                indexOfChain[path] = Int32(programs.count)
                programs.append(nil)
                chains.append(nil)
            }
        }
        for path in changed {
            guard let chain = topology.chains[path], let index = indexOfChain[path] else { continue }
            let source = ChainSource(
                chain, chain: { self.chain($0, of: path.tenant) },
                group: { indexOfGroup[DevicePath(tenant: path.tenant, name: $0)] ?? -1 })
            let program = ChainProgram(source, tag: .chain(path))
            programs[Int(index)] = program
            chains[Int(index)] = program.view
            words = max(words, program.view.words)
        }
    }

    /// Compiles pools that are new or changed; a pool that comes again has its place again.
    mutating func updatePools(_ topology: Topology, _ changed: Set<DevicePath>) {
        for path in changed.sorted() {
            let program = topology.pools[path].map(PoolProgram.init)
            if let index = indexOfPool[path] {
                pools[Int(index)] = program
            } else if program != nil {
                indexOfPool[path] = Int32(pools.count)
                pools.append(program)
                pathOfPool.append(path)
            }
        }
    }

    /// A pool's members of a family; `nil` when there is no pool.
    @inline(__always)
    func pool(_ index: Int32, _ family: AddressFamily) -> PoolView? {
        index < 0 ? nil : pools[Int(index)]?.view(family)
    }

    /// A pool's name.
    func poolPath(_ index: Int32) -> DevicePath? { index < 0 ? nil : pathOfPool[Int(index)] }

    /// Compiles what a router translates; the index of it, -1 where it is nothing.
    ///
    /// - Parameter ports: its ports.
    mutating func updateTranslation(of router: Router, _ ports: [TranslationProgram.RouterPort]) -> Int32 {
        guard !router.translation.isEmpty else {
            removeTranslation(of: router.path)
            return -1
        }
        let index: Int32
        if let known = indexOfTranslation[router.path] {
            index = known
        } else {
            index = Int32(translationPrograms.count)
            indexOfTranslation[router.path] = index
            translationPrograms.append(nil)
            translations.append(nil)
            // Its two lists of rules lie among the chains.
            for _ in 0..<2 {
                programs.append(nil)
                chains.append(nil)
            }
        }
        let old = translations[Int(index)]
        let program = TranslationProgram(
            router, ports,
            chains: old.map { ($0.pointee.destinationChain, $0.pointee.sourceChain) }
                ?? (Int32(programs.count - 2), Int32(programs.count - 1)),
            group: { indexOfGroup[DevicePath(tenant: router.path.tenant, name: $0)] ?? -1 },
            pool: { name in
                let index = indexOfPool[DevicePath(tenant: router.path.tenant, name: name)] ?? -1
                return (index, index < 0 ? [] : pools[Int(index)]?.members ?? [])
            })
        for (chain, list) in [
            (program.view.pointee.destinationChain, program.destinationList),
            (program.view.pointee.sourceChain, program.sourceList),
        ] {
            programs[Int(chain)] = list
            chains[Int(chain)] = list.view
            words = max(words, list.view.words)
        }
        translationPrograms[Int(index)] = program
        translations[Int(index)] = program.view
        return index
    }

    /// Forgets what a router translated; the places are left.
    mutating func removeTranslation(of router: DevicePath) {
        guard let index = indexOfTranslation[router] else { return }
        indexOfTranslation[router] = nil
        translations[Int(index)] = nil
        translationPrograms[Int(index)] = nil
    }

    /// Places that nothing uses any more.
    var waste: Int {
        programs.count - indexOfChain.count - 2 * indexOfTranslation.count
            - 2 * (security.ofGroup.count + security.ofSet.count) + groupPrograms.count - indexOfGroup.count
            + pools.count { $0 == nil }
    }
}

/// Views of chains. They are valid as long as the ``PolicyTables`` that they lie in, or a copy of it.
struct ChainViews: @unchecked Sendable {  // what they point to is never written
    private var views: [ChainView?] = []
    @inline(__always)
    subscript(_ index: Int) -> ChainView? {
        get { views[index] }
        set { views[index] = newValue }
    }
    mutating func append(_ view: ChainView?) { views.append(view) }
}

/// Views of address groups, likewise.
struct GroupViews: @unchecked Sendable {  // what they point to is never written
    private var views: [AddressGroupView] = []
    @inline(__always)
    subscript(_ index: Int) -> AddressGroupView {
        get { views[index] }
        set { views[index] = newValue }
    }
    mutating func append(_ view: AddressGroupView) { views.append(view) }
}
