// SPDX-License-Identifier: Apache-2.0
import Wire

/// Numbers by prefix of one family, found by the longest prefix that holds an address: a path-compressed trie in pages, so that
/// a copy in which few prefixes are others shares most of it. **Precise** as ``RoutingTable`` is.
///
/// Where it is dense, a node has a **jump**: what a walk by its next 8 bits finds, for each of their values, so that what a lookup
/// costs hardly depends on how many prefixes there are. Jumps are remembered walks: only ``lookup(_:)`` goes by them.
struct PrefixTrie: Sendable {
    /// Bits that a jump takes at once.
    private static var stride: Int { 8 }
    /// A jump is made where it spares so many nodes on one way...
    private static var densest: Int { 4 }
    /// ...as long as there are so many prefixes for each.
    private static var prefixesPerJump: Int { 32 }

    private struct Node: BitwiseCopyable {
        var prefix: IPAddress
        var length: Int32
        var child0: Int32 = -1
        var child1: Int32 = -1
        var value: Int32 = -1
        /// Where its jump is; -1: it has none.
        var jump: Int32 = -1

        subscript(_ bit: Int) -> Int32 {
            get { bit == 0 ? child0 : child1 }
            set { if bit == 0 { child0 = newValue } else { child1 = newValue } }
        }
    }

    /// What a walk finds among the next ``stride`` bits below a node, and where it goes on.
    private struct Step: BitwiseCopyable {
        var next: Int32 = -1
        var value: Int32 = -1
        var length: Int16 = -1
        var bits: UInt8 = 0
    }

    /// A lookup's result.
    struct Match {
        /// The number of the winning prefix; -1: none holds the address.
        var value: Int32 = -1
        /// Length of the winning prefix; -1 as well.
        var length = -1
        /// Leading bits of the address that decided.
        var bits = 0
    }

    private var nodes = PlainPages<Node>()
    private var free: [Int32] = []
    private var root: Int32 = -1
    /// 256 steps of each jump.
    private var steps = PlainPages<Step>()
    private var freeJumps: [Int32] = []
    /// How many prefixes there are.
    private(set) var count = 0
    /// How many jumps there are.
    var jumpCount: Int { (steps.count >> Self.stride) - freeJumps.count }

    /// Finds the longest prefix that holds `address`.
    @inline(__always)
    func lookup(_ address: IPAddress) -> Match {
        var match = Match()
        var at = root
        let width = address.family.width
        while at >= 0 {
            let node = nodes[Int(at)]
            let length = Int(node.length)
            let common = address.commonPrefix(node.prefix)
            if common < length {
                match.bits = max(match.bits, common + 1)
                break
            }
            match.bits = max(match.bits, length)
            if node.value >= 0 { (match.value, match.length) = (node.value, length) }
            if node.jump >= 0 {
                let step = steps[(Int(node.jump) << Self.stride) + address.byte(at: length)]
                match.bits = max(match.bits, Int(step.bits))
                if step.value >= 0 { (match.value, match.length) = (step.value, Int(step.length)) }
                at = step.next
                continue
            }
            if length >= width || (node.child0 < 0 && node.child1 < 0) { break }
            match.bits = max(match.bits, length + 1)
            at = node[address.bit(length)]
        }
        return match
    }

    /// Finds the longest prefix that holds `address` and is shorter than `length`; ``Match/bits`` is not told.
    func lookup(_ address: IPAddress, shorterThan length: Int) -> Match {
        var match = Match()
        var at = root
        while at >= 0 {
            let node = nodes[Int(at)]
            guard Int(node.length) < length, address.commonPrefix(node.prefix) >= Int(node.length) else { break }
            if node.value >= 0 { (match.value, match.length) = (node.value, Int(node.length)) }
            if node.child0 < 0 && node.child1 < 0 { break }
            at = node[address.bit(Int(node.length))]
        }
        return match
    }

    /// The number of a prefix itself.
    subscript(_ prefix: Prefix) -> Int32? {
        var at = root
        while at >= 0 {
            let node = nodes[Int(at)]
            guard Int(node.length) <= prefix.length, prefix.address.commonPrefix(node.prefix) >= Int(node.length)
            else { return nil }
            if Int(node.length) == prefix.length { return node.value >= 0 ? node.value : nil }
            at = node[prefix.address.bit(Int(node.length))]
        }
        return nil
    }

    /// Sets the number of a prefix.
    mutating func set(_ prefix: Prefix, _ value: Int32) {
        let parent = insert(prefix, value)
        correctJumps(prefix, below: parent)
        makeJumps(prefix)
    }

    /// Forgets a prefix.
    mutating func remove(_ prefix: Prefix) {
        guard let parent = take(prefix) else { return }
        correctJumps(prefix, below: parent)
    }

    /// Puts a prefix in. Returns the node below which the trie is another now; -1: all of it.
    private mutating func insert(_ prefix: Prefix, _ value: Int32) -> Int32 {
        var (parent, at): (Int32, Int32) = (-1, root)
        while at >= 0 {
            let node = nodes[Int(at)]
            let length = Int(node.length)
            let common = min(prefix.address.commonPrefix(node.prefix), length, prefix.length)
            if common < length {
                // They part above the node: the prefix itself is the fork, or a fork is put in.
                let leaf = make(prefix, value)
                count += 1
                var fork = leaf
                if common < prefix.length {
                    fork = make(Prefix(prefix.address, length: common), -1)
                    nodes[Int(fork)][prefix.address.bit(common)] = leaf
                }
                nodes[Int(fork)][node.prefix.bit(common)] = at
                link(parent, prefix, fork)
                return parent
            }
            if length == prefix.length {
                if node.value < 0 { count += 1 }
                nodes[Int(at)].value = value
                return parent
            }
            (parent, at) = (at, node[prefix.address.bit(length)])
        }
        link(parent, prefix, make(prefix, value))
        count += 1
        return parent
    }

    /// Takes a prefix out. Returns the node below which the trie is another now, -1: all of it; `nil` when there was no such prefix.
    private mutating func take(_ prefix: Prefix) -> Int32? {
        var path: [Int32] = []
        var at = root
        while at >= 0 {
            let node = nodes[Int(at)]
            guard Int(node.length) <= prefix.length, prefix.address.commonPrefix(node.prefix) >= Int(node.length)
            else { return nil }
            path.append(at)
            if Int(node.length) == prefix.length { break }
            at = node[prefix.address.bit(Int(node.length))]
        }
        guard at >= 0, nodes[Int(at)].value >= 0 else { return nil }
        nodes[Int(at)].value = -1
        count -= 1
        // A node that neither has a number nor forks is not needed; nor, then, may its parent be.
        while let last = path.popLast() {
            let node = nodes[Int(last)]
            guard node.value < 0, node.child0 < 0 || node.child1 < 0 else {
                return last == at ? path.last ?? -1 : last
            }
            link(path.last ?? -1, prefix, max(node.child0, node.child1))
            if node.jump >= 0 { freeJumps.append(node.jump) }
            free.append(last)
        }
        return -1
    }

    /// Makes the jumps right in which a prefix's way below `parent` is remembered.
    private mutating func correctJumps(_ prefix: Prefix, below parent: Int32) {
        guard parent >= 0 else { return }
        let changed = Int(nodes[Int(parent)].length)
        let isFork = nodes[Int(parent)].child0 >= 0 && nodes[Int(parent)].child1 >= 0
        var at = root
        while at >= 0 {
            let node = nodes[Int(at)]
            let length = Int(node.length)
            if node.jump >= 0, node.child0 < 0, node.child1 < 0 {
                freeJumps.append(node.jump)
                nodes[Int(at)].jump = -1
            } else if node.jump >= 0, changed - length < Self.stride {
                // All values that agree with the prefix up to where the parent forks; if it does not, all below it.
                let free = Self.stride - (changed + (isFork ? 1 : 0) - length)
                let first = (prefix.address.byte(at: length) >> free) << free
                for byte in first..<first + (1 << free) {
                    steps[(Int(node.jump) << Self.stride) + byte] = step(below: node, byte)
                }
            }
            if at == parent { return }
            at = node[prefix.address.bit(length)]
        }
    }

    /// Makes jumps on a prefix's way where it has become long.
    private mutating func makeJumps(_ prefix: Prefix) {
        var path: [Int32] = []
        var at = root
        while at >= 0, nodes[Int(at)].length < prefix.length {
            path.append(at)
            at = nodes[Int(at)][prefix.address.bit(Int(nodes[Int(at)].length))]
        }
        var start = 0
        while start < path.count {
            let node = nodes[Int(path[start])]
            let end = Int(node.length) + Self.stride
            let after = path[start...].firstIndex { nodes[Int($0)].length >= end } ?? path.count
            if node.jump < 0 {
                guard after - start > Self.densest, end <= prefix.family.width,
                    jumpCount * Self.prefixesPerJump <= count
                else {
                    start += 1
                    continue
                }
                let jump = freeJumps.popLast() ?? Int32(steps.count >> Self.stride)
                for byte in 0..<1 << Self.stride {
                    let (place, step) = ((Int(jump) << Self.stride) + byte, step(below: node, byte))
                    if place == steps.count { steps.append(step) } else { steps[place] = step }
                }
                nodes[Int(path[start])].jump = jump
            }
            start = after
        }
    }

    /// What a walk below a node finds by the next bits of an address.
    private func step(below node: Node, _ byte: Int) -> Step {
        let end = Int(node.length) + Self.stride
        let address = node.prefix.with(byte, at: Int(node.length))
        var step = Step()
        var bits = Int(node.length) + 1
        var at = node[address.bit(Int(node.length))]
        while at >= 0 {
            let next = nodes[Int(at)]
            let length = Int(next.length)
            let common = address.commonPrefix(next.prefix)
            if common < min(length, end) {
                bits = max(bits, common + 1)
                break
            }
            if length >= end {
                step.next = at
                break
            }
            bits = max(bits, length)
            if next.value >= 0 { (step.value, step.length) = (next.value, Int16(length)) }
            if next.child0 < 0 && next.child1 < 0 { break }
            bits = max(bits, length + 1)
            at = next[address.bit(length)]
        }
        step.bits = UInt8(bits)
        return step
    }

    /// Puts a node below another one, or at the top, on the side of a prefix.
    private mutating func link(_ parent: Int32, _ prefix: Prefix, _ child: Int32) {
        if parent < 0 {
            root = child
        } else {
            nodes[Int(parent)][prefix.address.bit(Int(nodes[Int(parent)].length))] = child
        }
    }

    private mutating func make(_ prefix: Prefix, _ value: Int32) -> Int32 {
        let node = Node(prefix: prefix.address.masked(prefix.length), length: Int32(prefix.length), value: value)
        if let place = free.popLast() {
            nodes[Int(place)] = node
            return place
        }
        nodes.append(node)
        return Int32(nodes.count - 1)
    }
}
