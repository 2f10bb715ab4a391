// SPDX-License-Identifier: Apache-2.0
import Wire

/// What can be wrong with a router's translations.
extension Topology {
    func checkTranslation(of router: Router, _ found: inout [Problem]) {
        let translation = router.translation
        if translation.rules.count > Translation.rulesPerRouter {
            found.append(
                Problem(
                    router.path,
                    "has \(translation.rules.count) nat rules, \(Translation.rulesPerRouter) at most",
                    remedy: "use ranges and address groups"))
        }
        var ids: Set<String> = []
        for rule in translation.rules {
            let name = "\(router.path) nat rule \(rule.id)"
            if !ids.insert(rule.id).inserted {
                found.append(Problem(name, "is there twice", remedy: "give each rule of a router an id of its own"))
            }
            check(rule, name, router.path.tenant, &found)
        }
        checkFloating(of: router, &found)
        if !translation.virtual.isEmpty { checkVirtualAddresses(of: router, &found) }
    }

    private func check(_ rule: TranslationRule, _ name: String, _ tenant: String, _ found: inout [Problem]) {
        let condition = rule.condition
        check(condition, name, tenant, &found)
        func problem(_ reason: String, _ remedy: String) { found.append(Problem(name, reason, remedy: remedy)) }
        let unstable: [(String, Bool)] = [
            ("state", condition.states != nil), ("direction", condition.direction != nil),
            ("tcpFlags", condition.tcpFlags != nil), ("fragment", condition.fragment != nil),
            ("dscp", condition.dscp != nil),
        ]
        for (field, isUsed) in unstable where isUsed {
            problem(
                "asks for \(field), in which packets of one connection differ",
                "leave it out, and let a filter decide about it")
        }
        var isSource = false
        switch rule.action {
        case .accept: return
        case .masquerade(let ports):
            isSource = true
            if let ports { check(ports, problem) }
        case .source(let target):
            isSource = true
            check(target, condition, problem)
        case .destination(let target):
            check(target, condition, problem)
            let ip = condition.ipProtocol
            let carriers = [IPProtocol.tcp, IPProtocol.udp, IPProtocol.sctp]
            if target.ports != nil, ip == nil || ip?.isInverted == true || !carriers.contains(ip?.value ?? 0) {
                problem("translates ports without a protocol that has them", "say protocol: tcp, udp or sctp")
            }
        }
        if !isSource, condition.outPorts != nil || condition.outPortGroup != nil {
            problem(
                "asks where a packet leaves, which is not known before its destination is",
                "leave outPort out of dnat rules")
        }
    }

    private func check(_ ports: PortRange, _ problem: (String, String) -> Void) {
        if ports.first > ports.last {
            problem("range \(ports) ends before it begins", "write \(ports.last)-\(ports.first)")
        } else if ports.first == 0 {
            problem("port 0 is none", "begin at 1")
        }
    }

    private func check(_ target: TranslationTarget, _ condition: Condition, _ problem: (String, String) -> Void) {
        if target.first.family != target.last.family {
            return problem("its first and last address are of different families", "use IPv4 or IPv6 for both")
        }
        if target.first > target.last {
            problem(
                "range \(target.first)-\(target.last) ends before it begins", "write \(target.last)-\(target.first)")
        } else if target.count > TranslationTarget.addressesPerTarget {
            problem(
                "has more than \(TranslationTarget.addressesPerTarget) addresses to translate to",
                "use fewer, or several rules")
        }
        for address in [target.first, target.last] where !isHost(address) {
            problem("\(address) is no address of a machine", "name addresses that machines can have")
            break
        }
        let families = Set(
            ((condition.sources?.value ?? []).union(condition.destinations?.value ?? [])).map(\.family))
        if !families.isEmpty, !families.contains(target.first.family) {
            problem(
                "translates \(target.first.family == .ipv4 ? "IPv6 to IPv4" : "IPv4 to IPv6")",
                "name addresses of the family that the rule is for")
        }
        if let ports = target.ports { check(ports, problem) }
    }

    /// Whether a machine can have the address.
    func isHost(_ address: IPAddress) -> Bool {
        if address.isMulticast || (address.high | address.low) == 0 { return false }
        return address.family == .ipv6
            ? address.high != 0 || address.low > 1
            : address.high >> 56 != 127
                && address.high >> 56 != 0 && address.high >> 60 != 0xf
    }

    private func checkFloating(of router: Router, _ found: inout [Problem]) {
        let list = router.translation.floating
        if list.count > Translation.floatingPerRouter {
            found.append(
                Problem(
                    router.path, "has \(list.count) floating addresses, \(Translation.floatingPerRouter) at most",
                    remedy: "spread the machines over several routers"))
        }
        let own = ports(of: router.path)
        var addresses: Set<IPAddress> = []
        var targets: Set<FloatingAddress> = []
        for floating in list {
            let name = "\(router.path) floating address \(floating.address)"
            func problem(_ reason: String, _ remedy: String) { found.append(Problem(name, reason, remedy: remedy)) }
            if !addresses.insert(floating.address).inserted {
                problem("is there twice", "let it stand for one machine")
            }
            if floating.address.family != floating.target.family {
                problem("stands for \(floating.target), of the other family", "use IPv4 with IPv4, IPv6 with IPv6")
            }
            for address in [floating.address, floating.target] where !isHost(address) {
                problem("\(address) is no address of a machine", "name addresses that machines can have")
            }
            if let holder = own.first(where: { $0.addresses.contains { $0.address == floating.address } }) {
                problem("is the router's own, of port \(holder.path)", "use another, or a dnat rule")
            }
            let near = own.first { $0.addresses.contains { $0.network.contains(floating.address) } }
            if let port = floating.port {
                if !own.contains(where: { $0.path.name == port }) {
                    problem(
                        "port \(port) does not exist",
                        "name one of: \(own.map(\.path.name).sorted().joined(separator: ", "))")
                }
            } else if near == nil {
                problem(
                    "is in no network of the router", "say which port leads to those who use it, as in port: uplink")
            }
            // What the machine sends by one port can say one address only.
            let seen = FloatingAddress(
                floating.target, target: floating.target, port: floating.port ?? near?.path.name)
            if !targets.insert(seen).inserted {
                problem("\(floating.target) has another floating address there", "give each machine one for each port")
            }
            for rule in router.translation.rules {
                guard case .source(let target) = rule.action, target.first <= floating.address,
                    floating.address <= target.last, target.first.family == floating.address.family
                else { continue }
                problem("nat rule \(rule.id) translates sources to it", "take it out of \(target), or drop it here")
            }
        }
    }
}
