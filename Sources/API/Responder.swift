// SPDX-License-Identifier: Apache-2.0
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Store
import TLS

/// What a request carries along: who is behind its connection.
struct APIContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}

/// Finds the endpoint of a request, makes sure that the caller may ask, and has it answered. Whatever goes wrong becomes a
/// problem in the form of RFC 9457.
struct APIResponder: HTTPResponder {
    typealias Context = APIContext

    /// Bytes of a request's body.
    static let bodyLimit = 8 << 20
    /// ... that anybody may make.
    static let openBodyLimit = 64 << 10

    let endpoints: [Endpoint]
    /// Endpoints by how many parts their paths have.
    private let byLength: [Int: [Endpoint]]
    let identify: @Sendable (Request, any Channel) throws -> Caller

    init(_ endpoints: [Endpoint], identify: @escaping @Sendable (Request, any Channel) throws -> Caller) {
        self.endpoints = endpoints
        self.identify = identify
        byLength = Dictionary(grouping: endpoints) { $0.segments.count }
    }

    func respond(to request: Request, context: APIContext) async throws -> Response {
        do {
            return response(try await answer(request, context))
        } catch {
            return response(.error(APIError(error)))
        }
    }

    private func answer(_ request: Request, _ context: APIContext) async throws -> Reply {
        guard let path = percentDecoded(request.uri.path) else {
            throw APIError.badRequest("the path is not text")
        }
        let parts = path.split(separator: "/")
        let candidates = (byLength[parts.count] ?? []).compactMap { endpoint in
            APIResponder.match(endpoint, parts).map { (endpoint, $0) }
        }
        guard !candidates.isEmpty else {
            throw APIError(404, "not-found", "There is no such thing", "\(path): no such path")
        }
        guard let (endpoint, names) = candidates.first(where: { $0.0.method == request.method }) else {
            let allowed = candidates.map(\.0.method.rawValue).sorted().joined(separator: ", ")
            var reply = Reply.error(
                APIError(405, "method", "This can't be done here", "\(request.method) \(path): use \(allowed)"))
            reply.headers.append(("Allow", allowed))
            return reply
        }
        // What is for anybody asks nobody who they are.
        let caller = endpoint.access == .open ? Caller(name: "you", role: nil) : try identify(request, context.channel)
        switch endpoint.access {
        case .open: break
        case .known, .operator:
            guard let role = caller.role else {
                throw APIError(
                    401, "unauthorized", "Who are you?",
                    "show a client certificate of the cluster's authority, or a key: Authorization: Bearer ...")
            }
            if endpoint.access == .operator, role != .operator {
                throw APIError(403, "forbidden", "You may not", "\(caller.name) is \(role); this is for operators")
            }
        }
        var call = Call(
            caller: caller, path: names, query: [:],
            ifMatch: request.headers[.ifMatch].map { $0.trimmingPrefix("\"") }.map { text in
                text.hasSuffix("\"") ? String(text.dropLast()) : String(text)
            }, body: ByteBuffer())
        let (identify, channel) = (identify, context.channel)
        call.isStillKnown = { (try? identify(request, channel))?.role == caller.role }
        for (name, value) in request.uri.queryParameters {
            let key = String(name)
            if call.query[key] == nil { call.query[key] = percentDecoded(value) ?? String(value) }
        }
        for parameter in endpoint.parameters where parameter.place == .query {
            guard let text = call.query[parameter.name] else { continue }
            if let problem = parameter.schema.problem(text: text, at: parameter.name) {
                throw APIError.badRequest(problem)
            }
        }
        call.body = try await read(request, endpoint)
        return try await endpoint.handle(call)
    }

    /// The names of a path's parts; `nil` when it is another path.
    static func match(_ endpoint: Endpoint, _ parts: [Substring]) -> [String: String]? {
        var names: [String: String] = [:]
        for (pattern, part) in zip(endpoint.segments, parts) {
            if pattern.hasPrefix("{") {
                names[String(pattern.dropFirst().dropLast())] = String(part)
            } else if pattern != part {
                return nil
            }
        }
        return names
    }

    private func read(_ request: Request, _ endpoint: Endpoint) async throws -> ByteBuffer {
        let bytes: ByteBuffer
        // From anybody, and where nothing is expected, less is taken.
        let limit =
            endpoint.body == nil ? 4096 : endpoint.access == .open ? APIResponder.openBodyLimit : APIResponder.bodyLimit
        do { bytes = try await request.body.collect(upTo: limit) } catch is NIOTooManyBytesError {
            throw APIError(
                413, "too-large", "The request is too large", "at most \(limit) bytes; send less at once")
        }
        guard let body = endpoint.body else { return bytes }
        if let type = request.headers[.contentType]?.split(separator: ";").first?.lowercased() {
            let isRight = body.type == "application/json" ? type == body.type : true
            guard isRight else {
                throw APIError(415, "media-type", "This is not understood", "content type \(type): use \(body.type)")
            }
        }
        guard body.type == "application/json" else { return bytes }
        let value: JSON
        do { value = try JSONDecoder().decode(JSON.self, from: Data(bytes.readableBytesView)) } catch {
            throw APIError.badRequest("the body is no JSON")
        }
        if let problem = body.schema.problem(value) { throw APIError.badRequest(problem) }
        return bytes
    }

    private func response(_ reply: Reply) -> Response {
        var headers = HTTPFields()
        if !reply.type.isEmpty { headers[.contentType] = reply.type }
        headers[.cacheControl] = "no-store"
        for (name, value) in reply.headers {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        let body: ResponseBody
        switch reply.body {
        case .none: body = ResponseBody()
        case .bytes(let bytes): body = ResponseBody(byteBuffer: bytes)
        case .stream(let produce):
            body = ResponseBody { writer in
                nonisolated(unsafe) var out = writer  // used here alone, one write after the other
                try await produce { bytes in try await out.write(bytes) }
                try await out.finish(nil)
            }
        }
        return Response(status: .init(code: reply.status), headers: headers, body: body)
    }
}

extension StringProtocol {
    fileprivate func trimmingPrefix(_ prefix: String) -> Substring {
        hasPrefix(prefix) ? Substring(dropFirst(prefix.count)) : Substring(self)
    }
}
