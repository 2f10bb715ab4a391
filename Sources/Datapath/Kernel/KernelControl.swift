// SPDX-License-Identifier: Apache-2.0
import CNetlink
import Glibc
import Linux
import Netlink
import Wire

/// The control side of an openvswitch datapath: the datapath itself, its ports, dumps of its flows. Blocking requests on
/// a socket of its own.
final class KernelControl {
    /// Generic netlink families of the module.
    struct Families {
        var datapath: UInt16
        var vport: UInt16
        var flow: UInt16
        var packet: UInt16
        var meter: UInt16
    }
    /// A port as the kernel tells of it.
    struct Vport {
        var number: UInt32 = 0
        var name = ""
        var type: UInt32 = 0
        var statistics = [UInt64](repeating: 0, count: 8)
    }
    /// Features of a datapath (`OVS_DP_F_*`).
    enum Feature {
        static let perCPU: UInt32 = 0x8
        static let vportPIDs: UInt32 = 0x2
    }

    let families: Families
    private let socket: NetlinkSocket
    private(set) var index: Int32 = 0
    private var lastNumber: UInt32 = 0
    /// DP_MAX_PORTS of the module, less the reserved ones.
    private static let highestNumber: UInt32 = 65_530

    /// Opens the module's doors; throws `ENOENT` where the kernel has no openvswitch.
    init() throws {
        socket = try NetlinkSocket(protocol: 16)
        families = Families(
            datapath: try socket.family("ovs_datapath"), vport: try socket.family("ovs_vport"),
            flow: try socket.family("ovs_flow"), packet: try socket.family("ovs_packet"),
            meter: try socket.family("ovs_meter"))
    }

    /// Works on a datapath that another control opened.
    func attach(to index: Int32) { self.index = index }

    private func message(_ family: UInt16, _ command: UInt8, version: UInt8 = 1, flags: UInt16 = 0) -> NetlinkMessage {
        var message = NetlinkMessage(family: family, command: command, version: version, flags: flags)
        message.append(index)
        return message
    }

    // MARK: - The datapath

    /// Makes the datapath of a name, or takes over the one that an earlier run left. Upcalls go to `sockets`, by CPU where
    /// the kernel can, by port otherwise.
    ///
    /// - Returns: whether upcalls go by CPU.
    func open(_ name: String, sockets: [UInt32], cpus: Int) throws -> Bool {
        let byCPU = (0..<max(cpus, sockets.count)).map { sockets[$0 % sockets.count] }
        do {
            try open(name, features: Feature.perCPU, first: sockets[0], byCPU: byCPU)
            return true
        } catch let error as SystemError where error.code == EOPNOTSUPP || error.code == EINVAL {
            try open(name, features: Feature.vportPIDs, first: sockets[0], byCPU: nil)
            return false
        }
    }

    private func open(_ name: String, features: UInt32, first: UInt32, byCPU: [UInt32]?) throws {
        func fill(_ message: inout NetlinkMessage) {
            message.attribute(1, name)
            message.attribute(2, first)
            message.attribute(5, features)
            if let byCPU { message.attribute(8, bytes: byCPU.flatMap { withUnsafeBytes(of: $0, Array.init) }) }
        }
        index = 0
        var make = message(families.datapath, 1, version: 2)
        fill(&make)
        do {
            try socket.request(&make, "make datapath \(name)", { self.readIndex($0) })
        } catch let error as SystemError where error.code == EEXIST {
            // Features must be said with each change: left out they are reset.
            var change = message(families.datapath, 4, version: 2)
            fill(&change)
            try socket.request(&change, "take over datapath \(name)", { self.readIndex($0) })
        }
        if index == 0 {
            var get = message(families.datapath, 3, version: 2)
            get.attribute(1, name)
            try socket.request(&get, "find datapath \(name)", { self.readIndex($0) })
        }
    }

    private func readIndex(_ reader: NetlinkReader) {
        if reader.payload.count >= 8 { index = reader.payload.loadUnaligned(fromByteOffset: 4, as: Int32.self) }
    }

    /// Removes the datapath with all ports and flows.
    func remove(_ name: String) throws {
        var message = message(families.datapath, 2, version: 2)
        message.attribute(1, name)
        try socket.request(&message, "remove datapath \(name)")
    }

    /// Hits, misses, lost, flows and masks.
    func statistics() throws -> DatapathStatistics {
        var statistics = DatapathStatistics()
        var message = message(families.datapath, 3, version: 2)
        try socket.request(&message, "read the datapath's counters") { reader in
            reader.forEachAttribute(from: 8) { type, value in
                if type == 3, value.count >= 32 {
                    statistics.hits = value.loadUnaligned(as: UInt64.self)
                    statistics.misses = value.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                    statistics.lost = value.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
                    statistics.flows = value.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
                }
                if type == 4, value.count >= 12 {
                    statistics.masks = UInt64(value.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
                }
            }
        }
        return statistics
    }

    // MARK: - Ports

    /// Adds an interface as a port; one that is a port already keeps its number.
    func addPort(_ interface: String, upcall sockets: [UInt32]) throws -> UInt32 {
        let pids = sockets.flatMap { withUnsafeBytes(of: $0, Array.init) }
        let present = try ports()
        if let known = present.first(where: { $0.name == interface }) {
            var change = message(families.vport, 4)
            change.attribute(1, known.number)
            change.attribute(5, bytes: pids)
            try socket.request(&change, "take over port \(interface)")
            return known.number
        }
        let wanted = freeNumber(present)
        var add = message(families.vport, 1)
        add.attribute(1, wanted)
        add.attribute(2, UInt32(1))  // OVS_VPORT_TYPE_NETDEV
        add.attribute(3, interface)
        add.attribute(5, bytes: pids)
        var number: UInt32 = 0
        try socket.request(&add, "add interface \(interface) to the datapath") { reader in
            if let port = KernelControl.port(reader) { number = port.number }
        }
        if number == 0 { number = try ports().first { $0.name == interface }?.number ?? 0 }
        if number == 0 { throw SystemError(EIO, "add interface \(interface) to the datapath") }
        return number
    }

    /// The next number after the last one given. Left to itself the kernel takes the first that is free, and what is left of
    /// flows to a port that just went would be those of the new one.
    private func freeNumber(_ present: [Vport]) -> UInt32 {
        let taken = Set(present.map(\.number))
        var number = max(lastNumber, taken.max() ?? 0)
        repeat { number = number % KernelControl.highestNumber + 1 } while taken.contains(number)
        lastNumber = number
        return number
    }

    func removePort(_ number: UInt32) throws {
        var message = message(families.vport, 2)
        message.attribute(1, number)
        do {
            try socket.request(&message, "remove port \(number)")
        } catch let error as SystemError where error.code == ENODEV {
            // The interface went, and the port with it.
        }
    }

    func ports() throws -> [Vport] {
        var message = message(families.vport, 3)
        message.isDump = true
        var list: [Vport] = []
        try socket.request(&message, "list ports") { reader in
            if let port = KernelControl.port(reader) { list.append(port) }
        }
        return list
    }

    private static func port(_ reader: NetlinkReader) -> Vport? {
        guard reader.payload.count >= 8 else { return nil }
        var port = Vport()
        reader.forEachAttribute(from: 8) { type, value in
            switch type {
            case 1: port.number = value.number() ?? 0
            case 2: port.type = value.number() ?? 0
            case 3: port.name = value.text
            case 6 where value.count >= 64:
                for index in 0..<8 {
                    port.statistics[index] = value.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self)
                }
            default: break
            }
        }
        return port
    }

    // MARK: - Meters

    func setMeter(_ number: UInt32, kilobits: UInt32, burst: UInt32) throws {
        var message = message(families.meter, 2)
        message.attribute(1, number)
        message.attribute(2, bytes: [])
        // One band, which drops (`OVS_METER_BAND_TYPE_DROP`); its burst is in thousands of bits.
        var band: [UInt8] = []
        for (type, value) in [(UInt16(1), UInt32(1)), (2, kilobits), (3, burst)] {
            withUnsafeBytes(of: (UInt16(8), type, value)) { band.append(contentsOf: $0) }
        }
        var nest: [UInt8] = []
        withUnsafeBytes(of: (UInt16(4 + band.count), UInt16(0x8001))) { nest.append(contentsOf: $0) }
        message.attribute(4 | 0x8000, bytes: nest + band)
        try socket.request(&message, "set meter \(number)")
    }

    func removeMeter(_ number: UInt32) throws {
        var message = message(families.meter, 3)
        message.attribute(1, number)
        do { try socket.request(&message, "remove meter \(number)") } catch let error as SystemError
            where error.code == ENOENT
        {
            // It went with an earlier datapath.
        }
    }

    // MARK: - Flows

    /// Walks all flows: id and counters only, which costs a seventh of the whole.
    func forEachFlow(_ body: (FlowID, FlowStatistics) -> Void) throws {
        var message = message(families.flow, 3)
        message.isDump = true
        message.attribute(10, UInt32(7))  // OVS_FLOW_ATTR_UFID_FLAGS: omit key, mask and actions
        try socket.request(&message, "read flow counters") { reader in
            var id: FlowID?
            var statistics = FlowStatistics()
            reader.forEachAttribute(from: 8) { type, value in KernelControl.read(type, value, &id, &statistics) }
            if let id { body(id, statistics) }
        }
    }

    private static func read(
        _ type: UInt16, _ value: UnsafeRawBufferPointer, _ id: inout FlowID?, _ statistics: inout FlowStatistics
    ) {
        switch type {
        case 9 where value.count == 16:
            id = FlowID(
                high: value.loadUnaligned(as: UInt64.self), low: value.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            )
        case 3 where value.count >= 16:
            statistics.packets = value.loadUnaligned(as: UInt64.self)
            statistics.bytes = value.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        case 4: statistics.tcpFlags = UInt16(value.number(UInt8.self) ?? 0)
        case 5:
            // Milliseconds of the monotonic clock.
            statistics.usedNanoseconds = (value.number(UInt64.self) ?? 0) &* 1_000_000
        default: break
        }
    }

    /// Walks all flows with their masked keys, as an earlier run left them.
    func inheritedFlows() throws -> [InheritedFlow] {
        var message = message(families.flow, 3)
        message.isDump = true
        var list: [InheritedFlow] = []
        try socket.request(&message, "read flows") { reader in
            var id: FlowID?
            var key: FlowKey?
            var statistics = FlowStatistics()
            reader.forEachAttribute(from: 8) { type, value in
                if type == 1 { key = KeyCodec.decode(value) }
                KernelControl.read(type, value, &id, &statistics)
            }
            if let key { list.append(InheritedFlow(id: id, key: key, statistics: statistics)) }
        }
        return list
    }
}
