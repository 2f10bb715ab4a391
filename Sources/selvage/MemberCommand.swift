// SPDX-License-Identifier: Apache-2.0
import API
import ArgumentParser
import Foundation
import Topology
import Wire

/// `selvage member`.
struct MemberCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "member",
        abstract: "Show how the members of a pool are, set what one takes, add one or take one out.",
        discussion: """
            Connections stay where they are when a member drains, goes down or gets another weight; a member that is taken out
            loses its own.

              selvage member shop/www
              selvage member shop/www 10.0.1.12:8080 --state drain --wait
              selvage member shop/www 10.0.1.14:8080 --add --weight 2
              selvage member shop/www 10.0.1.12:8080 --remove

            \(ExitStatus.help)
            """)
    @OptionGroup var client: ClientOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var output: OutputOptions
    @Argument(help: "The pool, as tenant/pool.") var pool: String
    @Argument(
        help:
            "The member: its address, with :PORT where it has one of its own ([ADDRESS]:PORT for IPv6). All are shown without."
    )
    var address: String?
    @Option(help: "up, drain (only clients that come back to it) or down (nothing new).") var state: String?
    @Option(help: "Its share, 0 to \(PoolMember.largestWeight).") var weight: Int?
    @Flag(help: "It is not in the pool yet.") var add = false
    @Flag(help: "Take it out of the pool.") var remove = false

    func validate() throws {
        if add, remove { throw ValidationError("--add and --remove exclude each other") }
        let isChange = add || remove || state != nil || weight != nil
        if address == nil, isChange { throw ValidationError("name the member, as in 10.0.1.12:8080") }
        if address != nil, !isChange {
            throw ValidationError("there is nothing to set: say --state, --weight, --add or --remove")
        }
        if remove, state != nil || weight != nil {
            throw ValidationError("a member that is taken out has no state and no weight")
        }
    }

    func run() async throws {
        guard let address else { return try await show() }
        try await change(address)
    }

    private func show() async throws {
        try await reporting {
            let path = "/v1/pools/\(percentEncoded(try Objects.name(pool, of: .pool)))/members"
            let members: [MemberAnswer] = try await client.ask { try await $0.value("GET", path) }
            try output.show(members) {
                LabPrinter.table(
                    ["MEMBER", "WEIGHT", "STATE", "ROUTER", "HEALTH", "WHY", "SINCE", "CONNECTIONS"],
                    members.flatMap { one in
                        let known = [
                            Self.name(one.member), "\(one.member.weight ?? 1)", one.member.state ?? "up",
                        ]
                        if one.views.isEmpty { return [known + ["", "", "no router sends it connections", "", ""]] }
                        return one.views.map {
                            known + [$0.router, $0.health, $0.reason ?? "", $0.since ?? "", "\($0.connections)"]
                        }
                    })
            }
        }
    }

    private func change(_ member: String) async throws {
        try await reporting {
            let (address, port) = try parse(member)
            let path = "/v1/pools/\(percentEncoded(try Objects.name(pool, of: .pool)))"
            var resource: PoolResource = try await client.ask { try await $0.value("GET", path) }
            var members = resource.members ?? []
            let place = members.firstIndex { IPAddress($0.address) == address && $0.port == port }
            if add {
                if place != nil { throw Complaint("\(member) is in \(pool) already: leave --add out") }
                var new = PoolMemberResource(PoolMember(address, port: port.map { UInt16($0) }))
                (new.weight, new.state) = (weight ?? 1, state ?? "up")
                members.append(new)
            } else {
                guard let place else {
                    let known = members.map { Self.name($0) }.joined(separator: ", ")
                    throw Complaint(
                        "\(member) is no member of \(pool): "
                            + (known.isEmpty ? "it has none" : "it has \(known)") + "; --add adds one")
                }
                if remove {
                    members.remove(at: place)
                } else {
                    if let state { members[place].state = state }
                    if let weight { members[place].weight = weight }
                }
            }
            let revision = resource.revision ?? 0
            (resource.members, resource.created, resource.revision) = (members, nil, nil)
            let sent = Array(try JSONEncoder().encode(resource))
            let response = try await client.ask {
                try await $0.call(
                    "PUT", path, query: waiting.query, headers: [("If-Match", "\(revision)")], body: sent)
            }
            let answer = try JSONDecoder().decode(ChangeAnswer.self, from: Data(response.body))
            let what = remove ? "is out of" : add ? "is in" : "is set in"
            print("\(member) \(what) \(pool), revision \(answer.revision)")
            try waiting.report(answer.wait)
        }
    }

    private static func name(_ member: PoolMemberResource) -> String {
        guard let port = member.port else { return member.address }
        return member.address.contains(":") ? "[\(member.address)]:\(port)" : "\(member.address):\(port)"
    }

    private func parse(_ member: String) throws -> (IPAddress, Int?) {
        if let address = IPAddress(member) { return (address, nil) }
        if let colon = member.lastIndex(of: ":"), let port = UInt16(member[member.index(after: colon)...]), port > 0 {
            let text = member[..<colon]
            let bare = text.hasPrefix("[") && text.hasSuffix("]") ? text.dropFirst().dropLast() : text
            if let address = IPAddress(String(bare)) { return (address, Int(port)) }
        }
        throw Complaint("\(member): write 10.0.1.12, 10.0.1.12:8080 or [fd00::12]:8080", ExitStatus.usage)
    }
}
