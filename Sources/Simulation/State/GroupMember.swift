// SPDX-License-Identifier: Apache-2.0
import Wire

/// Who wants what is sent to a group of a bridge.
public struct GroupMember: Sendable, Hashable {
    /// The group; all zeros: a multicast router is there, which wants what is sent to any.
    public var group: IPAddress
    /// Whose packets; all zeros: anybody's.
    public var source: IPAddress
    /// The VLAN.
    public var vlan: UInt16
    /// The bridge.
    public var bridge: Tag
    /// The port behind which a machine said so.
    public var port: Tag

    /// A member.
    ///
    /// - Parameters:
    ///   - group: `nil`: a router.
    ///   - source: `nil`: anybody.
    public init(
        group: IPAddress?, source: IPAddress? = nil, _ family: AddressFamily, vlan: UInt16, bridge: Tag, port: Tag
    ) {
        let none = IPAddress(high: 0, low: 0, family: family)
        self.group = group ?? none
        self.source = source ?? none
        self.vlan = vlan
        self.bridge = bridge
        self.port = port
    }

    /// Whether it is a router.
    public var isRouter: Bool { group.high | group.low == 0 }
    /// Whether it wants what anybody sends.
    public var isAnySource: Bool { source.high | source.low == 0 }
    /// The tag of what depends on who joined its group.
    public var tag: Tag { .group(group, vlan: vlan, bridge: bridge) }
}

/// How long what was said of groups is believed.
public enum GroupTimes {
    /// How often machines are asked what they joined, seconds (RFC 3376 section 8.2).
    public static let interval: UInt8 = 125
    /// How long they may take to answer, tenths of a second: one port's machines do not answer all at once.
    public static let answer: UInt8 = 10
    /// A group that is joined, seconds (section 8.4).
    public static let membership: UInt32 = 260
    /// One that a machine left, while others behind the same port may say that they have not (sections 8.8 and 8.9).
    public static let leaving: UInt32 = 2
    /// What is said of one that is leaving.
    public static let left: UInt32 = 0
    /// A router that asked (section 8.5).
    public static let router: UInt32 = 255
}

extension Tag {
    /// Who joined a group of a bridge; of all zeros, where its multicast routers are.
    @inlinable
    public static func group(_ group: IPAddress, vlan: UInt16, bridge: Tag) -> Tag {
        Tag(
            bits: mix(
                mix(bridge.bits ^ 0x9f07_0000_0000_0025, group.high),
                group.low ^ UInt64(vlan) << 1 ^ UInt64(group.family.rawValue)))
    }
}
