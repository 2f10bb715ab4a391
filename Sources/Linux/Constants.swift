// SPDX-License-Identifier: Apache-2.0

/// Numbers of Linux headers that Swift's view of glibc leaves out.
public enum LinuxConstant {
    /// `SOCK_CLOEXEC`.
    public static let closeOnExec: Int32 = 0o2000000
    /// `SOCK_NONBLOCK`.
    public static let nonBlocking: Int32 = 0o4000
    /// `SO_SNDBUFFORCE`.
    public static let forceSendBuffer: Int32 = 32
    /// `SO_RCVBUFFORCE`.
    public static let forceReceiveBuffer: Int32 = 33
    /// `SOL_NETLINK`.
    public static let netlinkLevel: Int32 = 270
    /// `NETLINK_ADD_MEMBERSHIP`.
    public static let netlinkAddMembership: Int32 = 1
    /// `NETLINK_CAP_ACK`: acknowledgements do not repeat the request.
    public static let netlinkCapAck: Int32 = 10
    /// `NETLINK_EXT_ACK`: refusals say why in words.
    public static let netlinkExtAck: Int32 = 11
    /// `IPPROTO_IPV6`.
    public static let ipv6Level: Int32 = 41
    /// `IPV6_V6ONLY`.
    public static let ipv6Only: Int32 = 26
}
