// SPDX-License-Identifier: Apache-2.0
import Wire

/// Objects of the topology as bytes, in the log, in the state's database and in snapshots: kind, format, fields. What this
/// version writes every later one reads: a fixture of each format is kept.
extension TopologyObject {
    /// Formats that are read, the last being written where it is needed: an object without what the later one adds is
    /// written as before, and a cluster of two versions goes on until somebody uses what only the newer one knows.
    static let formats = UInt8(1)...13

    /// As bytes; the same object always gives the same.
    public func encode(_ out: inout ByteWriter) {
        out.number(key.kind.code)
        let format = format
        out.number(format)
        switch self {
        case .bridge(let bridge):
            out.path(bridge.path)
            out.flag(bridge.isEnabled)
            out.list(bridge.subnets) { $0.prefix($1) }
            out.number(bridge.floodKey)
            if format > 1 { out.filters(bridge.filters) }
            if format > 2 { out.dhcp(bridge.dhcp) }
            if format > 3 { out.advertised(bridge.advertised) }
            if format > 4 {
                out.list(bridge.dhcp) { $0.flag($1.isStateless) }
                out.optional(bridge.names) { $0.names($1, format: format) }
            }
            if format > 5 { out.optional(bridge.multicast) { $0.multicast($1) } }
        case .router(let router):
            out.path(router.path)
            out.flag(router.isEnabled)
            out.list(router.routes) { $0.route($1) }
            if format > 1 { out.filters(router.filters) }
            if format > 2 { out.translation(router.translation) }
            if format > 3 { out.virtualAddresses(router.translation.virtual) }
            if format > 4 { out.optional(router.bgp) { $0.speaker($1, format: format) } }
        case .port(let port):
            out.port(port)
            if format > 1 {
                out.filters(port.filters)
                out.list(port.groups.sorted()) { $0.text($1) }
            }
            if format > 2 {
                out.list(port.security.sorted()) { $0.text($1) }
                out.list(port.allowed.sorted()) { $0.allowed($1) }
            }
            if format > 4 { out.quality(port.quality) }
            if format > 6 { out.services(port.services) }
            if format > 7 { out.optional(port.quality.guarantee) { $0.number($1) } }
            if format > 8 { out.optional(port.uplink) { $0.uplink($1, format: format) } }
            if format > 9 {
                out.optional(port.segment) { out, segment in
                    out.text(segment.name)
                    out.number(segment.preference)
                }
                out.optional(port.vxlan) { out, end in
                    out.number(end.identifier)
                    out.list(end.remotes) { $0.number($1.bits) }
                    out.optional(end.local) { $0.number($1.bits) }
                    out.number(end.port)
                    if format > 11 { out.optional(end.speaker) { $0.speaker($1) } }
                }
            }
        case .host(let host):
            out.text(host.name)
            out.list(host.tunnelAddresses.sorted { $0.key < $1.key }) { out, entry in
                out.text(entry.key)
                out.address(entry.value)
            }
            if format > 1 { out.optional(host.rate) { $0.number($1) } }
        case .zone(let zone):
            out.text(zone.name)
            out.text(zone.encapsulation.rawValue)
            out.count(zone.underlayMTU)
        case .chain(let chain): out.chain(chain)
        case .portGroup(let group):
            out.path(group.path)
            if format > 3 { out.flag(group.isStateful) }
        case .securityGroup(let group): out.securityGroup(group)
        case .mirror(let mirror): out.mirror(mirror, format: format)
        case .pool(let pool):
            out.pool(pool)
            if let monitor = pool.monitor { out.monitor(monitor) }
        case .tenant(let settings): out.settings(settings)
        case .addressGroup(let group):
            out.path(group.path)
            out.list(group.members.sorted()) { $0.prefix($1) }
        }
    }

    /// Reads an object.
    public init(from reader: inout ByteReader) throws(MalformedBytes) {
        let kind = try ObjectKey.Kind(from: &reader)
        let format: UInt8 = try reader.number()
        guard TopologyObject.formats.contains(format), format <= kind.newestFormat else {
            throw MalformedBytes("a \(kind.rawValue) of format \(format), which a later version wrote")
        }
        switch kind {
        case .bridge:
            var bridge = Bridge(path: try reader.devicePath())
            bridge.isEnabled = try reader.flag()
            bridge.subnets = try reader.list { reader throws(MalformedBytes) in try reader.prefix() }
            bridge.floodKey = try reader.number()
            if format > 1 { bridge.filters = try reader.filters() }
            if format > 2 { bridge.dhcp = try reader.dhcp() }
            if format > 3 { bridge.advertised = try reader.advertised() }
            if format > 4 {
                let flags = try reader.list { reader throws(MalformedBytes) in try reader.flag() }
                guard flags.count == bridge.dhcp.count else { throw MalformedBytes("a bridge with other networks") }
                for (place, flag) in flags.enumerated() { bridge.dhcp[place].isStateless = flag }
                bridge.names = try reader.flag() ? try reader.names(format: format) : nil
            }
            if format > 5 { bridge.multicast = try reader.flag() ? try reader.multicast() : nil }
            self = .bridge(bridge)
        case .router:
            var router = Router(path: try reader.devicePath())
            router.isEnabled = try reader.flag()
            router.routes = try reader.list { reader throws(MalformedBytes) in try reader.route() }
            if format > 1 { router.filters = try reader.filters() }
            if format > 2 { router.translation = try reader.translation() }
            if format > 3 { router.translation.virtual = try reader.virtualAddresses() }
            if format > 4 { router.bgp = try reader.flag() ? try reader.speaker(format: format) : nil }
            self = .router(router)
        case .port:
            var port = try reader.port()
            if format > 1 {
                port.filters = try reader.filters()
                port.groups = Set(try reader.list { reader throws(MalformedBytes) in try reader.name() })
            }
            if format > 2 {
                port.security = Set(try reader.list { reader throws(MalformedBytes) in try reader.name() })
                port.allowed = Set(try reader.list { reader throws(MalformedBytes) in try reader.allowed() })
            }
            if format > 4 { port.quality = try reader.quality() }
            if format > 6 { port.services = try reader.services() }
            if format > 7 { port.quality.guarantee = try reader.flag() ? try reader.number() : nil }
            if format > 8 { port.uplink = try reader.flag() ? try reader.uplink(format: format) : nil }
            if format > 9 {
                if try reader.flag() {
                    port.segment = EthernetSegment(name: try reader.name(), preference: try reader.number())
                }
                if try reader.flag() {
                    let identifier: UInt32 = try reader.number()
                    var end = VXLANEnd(
                        identifier: identifier,
                        remotes: try reader.list { reader throws(MalformedBytes) in
                            IPv4Address(bits: try reader.number())
                        })
                    end.local = try reader.flag() ? IPv4Address(bits: try reader.number()) : nil
                    end.port = try reader.number()
                    if format > 11 { end.speaker = try reader.flag() ? try reader.evpnSpeaker() : nil }
                    port.vxlan = end
                }
            }
            self = .port(port)
        case .host:
            var host = Host(name: try reader.name())
            for _ in 0..<(try reader.count()) { host.tunnelAddresses[try reader.name()] = try reader.address() }
            if format > 1 { host.rate = try reader.flag() ? try reader.number() : nil }
            self = .host(host)
        case .zone:
            let name = try reader.name()
            guard let encapsulation = TunnelZone.Encapsulation(rawValue: try reader.text()) else {
                throw MalformedBytes("a tunnel of an unknown kind")
            }
            var zone = TunnelZone(name: name, encapsulation: encapsulation)
            zone.underlayMTU = try reader.count16()
            self = .zone(zone)
        case .chain: self = .chain(try reader.chain())
        case .portGroup:
            var group = PortGroup(path: try reader.devicePath())
            if format > 3 { group.isStateful = try reader.flag() }
            self = .portGroup(group)
        case .securityGroup: self = .securityGroup(try reader.securityGroup())
        case .mirror: self = .mirror(try reader.mirror(format: format))
        case .pool:
            var pool = try reader.pool()
            if format > 1 { pool.monitor = try reader.monitor() }
            self = .pool(pool)
        case .tenant: self = .tenant(try reader.settings())
        case .addressGroup:
            var group = AddressGroup(path: try reader.devicePath())
            group.members = Set(try reader.list { reader throws(MalformedBytes) in try reader.prefix() })
            self = .addressGroup(group)
        }
    }
}

extension ObjectKey {
    /// As bytes.
    public func encode(_ out: inout ByteWriter) {
        out.number(kind.code)
        out.text(name)
    }

    /// Reads a key.
    public init(from reader: inout ByteReader) throws(MalformedBytes) {
        let kind = try Kind(from: &reader)
        guard let key = ObjectKey(kind, try reader.text()) else { throw MalformedBytes("a key of no object") }
        self = key
    }
}

extension ObjectKey.Kind {
    /// What stands for the kind in bytes and sums.
    public var code: UInt8 {
        switch self {
        case .bridge: 1
        case .router: 2
        case .port: 3
        case .host: 4
        case .zone: 5
        case .chain: 6
        case .portGroup: 7
        case .addressGroup: 8
        case .securityGroup: 9
        case .tenant: 10
        case .pool: 11
        case .mirror: 12
        }
    }

    fileprivate init(from reader: inout ByteReader) throws(MalformedBytes) {
        let code: UInt8 = try reader.number()
        guard let kind = ObjectKey.Kind.allCases.first(where: { $0.code == code }) else {
            throw MalformedBytes("an object of kind \(code), which a later version wrote")
        }
        self = kind
    }
}

extension ByteWriter {
    mutating func path(_ path: DevicePath) {
        text(path.tenant)
        text(path.name)
    }

    mutating func path(_ path: PortPath) {
        self.path(path.device)
        text(path.name)
    }

    mutating func route(_ route: Route) {
        prefix(route.destination)
        flag(route.source != nil)
        if let source = route.source { prefix(source) }
        number(route.weight)
        switch route.nextHop {
        case .gateway(let gateway, let port):
            number(UInt8(1))
            address(gateway)
            flag(port != nil)
            if let port { path(port) }
        case .port(let port):
            number(UInt8(2))
            path(port)
        case .blackhole: number(UInt8(3))
        case .reject: number(UInt8(4))
        }
    }

    mutating func port(_ port: Port) {
        path(port.path)
        flag(port.kind == .router)
        flag(port.isEnabled)
        switch port.attachment {
        case .none: number(UInt8(0))
        case .exterior(let host, let interface):
            number(UInt8(1))
            text(host)
            text(interface)
        case .peer(let other):
            number(UInt8(2))
            path(other)
        }
        number(port.mac.bits)
        list(port.addresses) { $0.interface($1) }
        switch port.vlan {
        case .access(let id):
            number(UInt8(0))
            number(id)
        case .trunk(let allowed, let native):
            number(UInt8(1))
            flag(allowed != nil)
            if let allowed { list(allowed.sorted()) { $0.number($1) } }
            flag(native != nil)
            if let native { number(native) }
        }
        number(port.tunnelKey)
    }
}

extension ByteReader {
    mutating func name() throws(MalformedBytes) -> String {
        let name = try text()
        guard isValidName(name) else { throw MalformedBytes("a name of no object") }
        return name
    }

    mutating func count16() throws(MalformedBytes) -> Int {
        let value = try longCount()
        guard value <= 0xffff else { throw MalformedBytes("a number that is too large") }
        return Int(value)
    }

    mutating func devicePath() throws(MalformedBytes) -> DevicePath {
        DevicePath(tenant: try name(), name: try name())
    }

    mutating func portPath() throws(MalformedBytes) -> PortPath {
        PortPath(device: try devicePath(), name: try name())
    }

    mutating func route() throws(MalformedBytes) -> Route {
        let destination = try prefix()
        let source = try flag() ? try prefix() : nil
        let weight: UInt16 = try number()
        let nextHop: NextHop
        switch try number(UInt8.self) {
        case 1: nextHop = .gateway(try address(), port: try flag() ? try portPath() : nil)
        case 2: nextHop = .port(try portPath())
        case 3: nextHop = .blackhole
        case 4: nextHop = .reject
        case let code: throw MalformedBytes("a next hop of kind \(code), which a later version wrote")
        }
        return Route(destination: destination, source: source, weight: weight, nextHop: nextHop)
    }

    mutating func port() throws(MalformedBytes) -> Port {
        // The MAC that follows from the name would be found for nothing.
        var port = Port(path: try portPath(), kind: try flag() ? .router : .bridge, mac: .zero)
        port.isEnabled = try flag()
        switch try number(UInt8.self) {
        case 0: break
        case 1: port.attachment = .exterior(host: try name(), interface: try text())
        case 2: port.attachment = .peer(try portPath())
        case let code: throw MalformedBytes("a port attached in the way \(code), which a later version wrote")
        }
        port.mac = MACAddress(bits: try number(UInt64.self) & 0xffff_ffff_ffff)
        port.addresses = try list { reader throws(MalformedBytes) in try reader.interface() }
        switch try number(UInt8.self) {
        case 0: port.vlan = .access(try number())
        case 1:
            var allowed: Set<UInt16>?
            if try flag() {
                allowed = Set(try list { reader throws(MalformedBytes) in try reader.number(UInt16.self) })
            }
            port.vlan = .trunk(allowed: allowed, native: try flag() ? try number() : nil)
        case let code: throw MalformedBytes("a port with VLANs of kind \(code), which a later version wrote")
        }
        port.tunnelKey = try number()
        return port
    }
}
