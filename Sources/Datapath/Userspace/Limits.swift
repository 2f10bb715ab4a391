// SPDX-License-Identifier: Apache-2.0

/// Bounds of the userspace engine.
enum UserspaceLimits {
    /// Frames read from a port before the next port has its turn: what keeps one flooding port from starving the others.
    static let burst = 32
    /// Largest frame: 64 KiB of layer 3 left to be segmented, Ethernet, two tags, outer headers of a tunnel.
    static let frameSize = 65_536 + 128
    /// Room before a frame, for tags.
    static let headroom = 64
    /// Distance of two frames in memory; not a multiple of a page, so that headers do not share cache sets.
    static let stride = (headroom + frameSize + 63) / 64 * 64 + 64
    /// Socket buffers, bytes: about 60 frames of 64 KiB.
    static let socketBuffer = 4 << 20
    /// UDP ports that a VXLAN port sends from. A card of two gets 8 of 16 by chance, give or take 2; a burst of as many flows
    /// takes as many calls to send.
    static let sourcePorts = 16
    /// Bytes of a slot of a port's ring: a frame of 1,500 bytes, tags, and what the kernel notes before it.
    static let slotSize = 2048
    /// Slots of a port's ring: 512 KiB a port.
    static let slots = 256
    /// Ports of a datapath; numbers are given below this.
    static let ports = 4096
    /// Rounds over ports that had frames before descriptors are polled again.
    static let roundsBetweenPolls = 4
    /// Upcalls that come out of actions of one packet: an action list that hands up for ever is cut.
    static let nestedUpcalls = 4
}
