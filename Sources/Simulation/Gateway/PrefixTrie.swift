// SPDX-License-Identifier: Apache-2.0
import Wire

/// Numbers by prefix of one family, found by the longest prefix that holds an address: a path-compressed trie in pages, so that
/// a copy in which few prefixes are others shares most of it. **Precise** as ``RoutingTable`` is.
struct PrefixTrie: Sendable {
    private struct Node {
        var prefix: IPAddress
        var length: Int32
        var child0: Int32 = -1
        var child1: Int32 = -1
        var value: Int32 = -1

        subscript(_ bit: Int) -> Int32 {
            get { bit == 0 ? child0 : child1 }
            set { if bit == 0 { child0 = newValue } else { child1 = newValue } }
        }
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

    private var nodes = PagedArray<Node>()
    private var free: [Int32] = []
    private var root: Int32 = -1
    /// How many prefixes there are.
    private(set) var count = 0

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
                return
            }
            if length == prefix.length {
                if node.value < 0 { count += 1 }
                nodes[Int(at)].value = value
                return
            }
            (parent, at) = (at, node[prefix.address.bit(length)])
        }
        link(parent, prefix, make(prefix, value))
        count += 1
    }

    /// Forgets a prefix.
    mutating func remove(_ prefix: Prefix) {
        var path: [Int32] = []
        var at = root
        while at >= 0 {
            let node = nodes[Int(at)]
            guard Int(node.length) <= prefix.length, prefix.address.commonPrefix(node.prefix) >= Int(node.length)
            else { return }
            path.append(at)
            if Int(node.length) == prefix.length { break }
            at = node[prefix.address.bit(Int(node.length))]
        }
        guard at >= 0, nodes[Int(at)].value >= 0 else { return }
        nodes[Int(at)].value = -1
        count -= 1
        // A node that neither has a number nor forks is not needed; nor, then, may its parent be.
        while let last = path.popLast() {
            let node = nodes[Int(last)]
            guard node.value < 0, node.child0 < 0 || node.child1 < 0 else { return }
            link(path.last ?? -1, prefix, max(node.child0, node.child1))
            free.append(last)
        }
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
