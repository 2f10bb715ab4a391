// SPDX-License-Identifier: Apache-2.0
import Manifest
import Topology

/// A topology drawn in the words of a manifest.
public func draw(_ text: String) throws -> Topology {
    var topology = try ManifestReader.read(text, file: "test.yaml").topology
    topology.revision = 1
    return topology
}

/// Drawings that several tests use. Host h1 is where packets come in.
public enum Drawings {
    /// One bridge over two hosts, IPv4 and IPv6.
    public static let bridge = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
        tenants:
          t:
            bridges:
              b:
                ports:
                  one: { host: h1, interface: one, mac: "0e:00:00:00:00:01", address: [10.0.1.1/24, "fd00:1::1/64"] }
                  two: { host: h1, interface: two, mac: "0e:00:00:00:00:02", address: 10.0.1.2/24 }
                  far: { host: h2, interface: far, mac: "0e:00:00:00:00:03", address: [10.0.1.3/24, "fd00:1::3/64"] }
        """

    /// A tenant's router, the provider's and another tenant's between two bridges; routes of every kind.
    public static let routers = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 }, h3: { address: 192.0.2.3 } }
        tenants:
          t:
            bridges:
              a:
                subnet: [10.0.1.0/24, "fd00:1::/64"]
                ports:
                  vm: { host: h1, interface: vm, mac: "0e:00:00:00:01:01", address: [10.0.1.11/24, "fd00:1::11/64"] }
                  other: { host: h2, interface: other, mac: "0e:00:00:00:01:02", address: 10.0.1.12/24 }
              b:
                ports:
                  near: { host: h1, interface: near, mac: "0e:00:00:00:02:01", address: 10.0.2.21/24 }
                  db: { host: h2, interface: db, mac: "0e:00:00:00:02:02", address: [10.0.2.22/24, "fd00:2::22/64"] }
            routers:
              gw:
                links:
                  - { bridge: a, mac: "0e:00:00:00:aa:01" }
                  - { bridge: b, address: [10.0.2.1/24, "fd00:2::1/64"] }
                  - { router: p/edge, address: [100.64.0.2/30, "fd00:64::2/64"], peer: [100.64.0.1/30, "fd00:64::1/64"] }
                routes:
                  - { to: 0.0.0.0/0, via: 100.64.0.1 }
                  - { to: "::/0", via: "fd00:64::1" }
                  - { to: 10.9.0.0/16, type: blackhole }
                  - { to: 10.9.8.0/24, via: 100.64.0.1, from: 10.0.1.0/28 }
                  - { to: 10.10.0.0/16, type: reject }
          u:
            bridges:
              c:
                subnet: 10.3.0.0/16
                ports:
                  server: { host: h3, interface: server, mac: "0e:00:00:00:03:01", address: 10.3.0.5/16 }
            routers:
              one:
                links:
                  - { bridge: c, address: 10.3.0.1/16 }
                  - { router: p/edge, address: 100.64.0.6/30, peer: 100.64.0.5/30 }
                routes: [{ to: 0.0.0.0/0, via: 100.64.0.5 }]
              two:
                links:
                  - { bridge: c, address: 10.3.0.2/16 }
                  - { router: p/edge, address: 100.64.0.10/30, peer: 100.64.0.9/30 }
                routes: [{ to: 0.0.0.0/0, via: 100.64.0.9 }]
          p:
            routers:
              edge:
                routes:
                  - { to: 10.0.0.0/14, via: 100.64.0.2 }
                  - { to: 10.3.0.0/16, via: 100.64.0.6 }
                  - { to: 10.3.0.0/16, via: 100.64.0.10 }
                  - { to: 10.3.128.0/17, via: 100.64.0.6, weight: 50 }
        """

    /// A bridge with VLANs: trunks, access ports, a router in one VLAN and a plain bridge behind another.
    public static let vlans = """
        hosts: { h1: { address: 192.0.2.1 }, h2: { address: 192.0.2.2 } }
        tenants:
          t:
            bridges:
              v:
                ports:
                  trunk: { host: h1, interface: trunk, trunk: [10, 20] }
                  all: { host: h2, interface: all, trunk: all, native: 30 }
                  ten: { host: h1, interface: ten, vlan: 10, mac: "0e:00:00:00:10:01", address: 10.10.0.1/24 }
                  twenty: { host: h2, interface: twenty, vlan: 20, mac: "0e:00:00:00:20:01", address: 10.20.0.1/24 }
                  plain: { host: h1, interface: plain, mac: "0e:00:00:00:00:01", address: 10.0.0.1/24 }
                links: [{ bridge: w, vlan: 20 }]
              w:
                ports:
                  leaf: { host: h1, interface: leaf, mac: "0e:00:00:00:20:09", address: 10.20.0.9/24 }
            routers:
              r:
                links: [{ bridge: v, vlan: 10, address: 10.10.0.254/24 }, { bridge: w, address: 10.20.0.254/24 }]
        """
}

extension Drawings {
    /// Two inner networks of machines and an outer one, all on one host; what routes between them is to follow.
    public static let threeNetworks = """
        hosts: { h1: { address: 192.0.2.1 } }
        tenants:
          t:
            bridges:
              a:
                ports:
                  one: { host: h1, interface: a1, mac: "0e:00:00:00:0a:01", address: 10.0.1.11/24 }
                  two: { host: h1, interface: a2, mac: "0e:00:00:00:0a:02", address: 10.0.1.12/24 }
              b:
                ports:
                  web: { host: h1, interface: b1, mac: "0e:00:00:00:0b:01", address: 10.0.2.21/24 }
              out:
                ports:
                  client: { host: h1, interface: o1, mac: "0e:00:00:00:0c:01", address: 203.0.113.99/24 }
                  far: { host: h1, interface: o2, mac: "0e:00:00:00:0c:02", address: 203.0.113.254/24 }
            routers:

        """

    /// A router that translates between them.
    public static let translating =
        threeNetworks + """
                  gw:
                    links:
                      - { bridge: a, address: 10.0.1.1/24 }
                      - { bridge: b, address: 10.0.2.1/24 }
                      - { bridge: out, address: 203.0.113.1/24 }
                    routes:
                      - { to: 0.0.0.0/0, via: 203.0.113.254 }
                    nat:
                      - { id: web, action: dnat 10.0.2.21 port 8080, destination: 203.0.113.10, protocol: tcp, destinationPort: 80 }
                      - { id: dns, action: dnat 10.0.2.21, destination: 203.0.113.10, protocol: udp, destinationPort: 53 }
                      - { id: range, action: dnat 10.0.2.21 port 7000-7009, destination: 203.0.113.10, protocol: tcp, destinationPort: 6000-6009 }
                      - { id: plain, action: accept, outPort: gw/out, destination: 198.51.100.0/24 }
                      - { id: many, action: snat 203.0.113.5-203.0.113.6, outPort: gw/out, source: 10.0.1.0/24 }
                      - { id: rest, action: masquerade port 2048-4095, outPort: gw/out, source: 10.0.2.0/24 }
                    floating:
                      203.0.113.20: 10.0.1.12
                      203.0.113.21: 10.0.2.21
            """
}
