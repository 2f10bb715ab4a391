// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import Linux
import NIOCore
import NIOPosix
import Netlink
import Topology
import Wire

/// A network of its own behind a router's port, and an event loop in it. It goes with this object, and with the process.
final class CheckNamespace: Sendable {
    private let group: MultiThreadedEventLoopGroup
    /// Its thread is in the namespace: sockets that are made on it are there.
    let loop: any EventLoop
    private let interface: String

    /// MTU of the way to the router, bytes: whatever the tunnels are, it fits.
    private static let mtu = 1280

    /// Makes the namespace, and the interface that the router's port is bound to.
    init(_ router: DevicePath) throws {
        interface = Port.monitorInterface(router)
        let descriptor = try NetworkNamespace.make(interface).descriptor
        let route = try RouteNetlink()
        try route.addVeth(
            interface, mtu: CheckNamespace.mtu, peer: "router", peerNamespace: descriptor.number,
            peerMAC: Port.monitorMAC(router))
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        loop = group.next()
        do {
            try route.setUp(interface)
            try loop.submit {
                try SystemError.check(cl_enter(descriptor.number), "enter a network namespace")
                let inside = try RouteNetlink()
                try inside.setUp("lo")
                try inside.setUp("router")
                for (own, router) in zip(Port.monitorSources, Port.monitorAddresses) {
                    // A host may have no IPv6: members that have are silent from it.
                    if own.address.family == .ipv6, !kernelHasIPv6 { continue }
                    try inside.addAddress(own, to: "router")
                    try inside.addRoute(
                        to: Prefix(IPAddress(high: 0, low: 0, family: own.address.family), length: 0),
                        via: router.address)
                }
            }
            .wait()
        } catch {
            group.shutdownGracefully { _ in }
            try? route.remove(interface)
            throw error
        }
    }

    /// Ends the loop and takes the interface away.
    func close() {
        group.shutdownGracefully { _ in }
        try? RouteNetlink().remove(interface)
    }
}
