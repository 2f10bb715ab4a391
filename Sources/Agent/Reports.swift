// SPDX-License-Identifier: Apache-2.0
import Datapath
import Simulation
import Topology
import Wire

/// A flow as tools show it.
public struct FlowReport: Sendable {
    /// Its id.
    public var id: FlowID
    /// The masked key.
    public var key: FlowKey
    /// The bits that count.
    public var mask: FlowMask
    /// What it does.
    public var actions: [Action]
    /// What it carried.
    public var statistics: FlowStatistics
    /// Nanoseconds since it was installed.
    public var ageNanoseconds: UInt64
    /// Nanoseconds since it carried something; `nil`: never.
    public var idleNanoseconds: UInt64?
    /// The port that it is for, or `tunnel`.
    public var ingress: String
    /// Installed beforehand for what may arrive by tunnel.
    public var isStanding: Bool

    init(_ record: FlowRecord, mask: FlowMask, epoch: Epoch, now: UInt64) {
        id = record.id
        key = mask.apply(record.sample)
        self.mask = mask
        actions = record.actions
        statistics = record.statistics
        ageNanoseconds = now &- record.installed
        let used = record.statistics.usedNanoseconds
        idleNanoseconds = used == 0 ? nil : now > used ? now - used : 0
        switch epoch.ingress(record.sample.inPort) {
        case .exterior(let port): ingress = epoch.fabric.path(port).description
        case .tunnel: ingress = "tunnel"
        case nil: ingress = "gone"
        }
        isStanding = record.isStanding
    }
}

/// A port of the datapath as tools show it.
public struct PortReport: Sendable {
    /// Its number, what it is, and its counters.
    public var status: PortStatus
    /// The virtual port that is bound to it.
    public var bound: PortPath?
}

/// A virtual port that is bound to this host.
public struct BindingReport: Sendable {
    /// The virtual port.
    public var port: PortPath
    /// The interface.
    public var interface: String
    /// Its number in the datapath; `nil` while the interface is not there.
    public var number: PortNumber?
    /// Why it is not bound, if it is not.
    public var problem: String?
}
