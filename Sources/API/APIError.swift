// SPDX-License-Identifier: Apache-2.0
import HTTPTypes
import Store
import Topology

/// Why a request was not carried out, as RFC 9457 wants it told.
public struct APIError: Error, Sendable, CustomStringConvertible {
    /// The HTTP status.
    public var status: Int
    /// Names the kind of problem, as in `conflict`.
    public var type: String
    /// The kind in words.
    public var title: String
    /// What happened this time, and what to do.
    public var detail: String
    /// What is wrong with which object.
    public var problems: [Problem] = []

    /// An error.
    public init(_ status: Int, _ type: String, _ title: String, _ detail: String, problems: [Problem] = []) {
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail
        self.problems = problems
    }

    /// What happened.
    public var description: String { detail }

    static func badRequest(_ detail: String) -> APIError {
        .init(400, "bad-request", "The request can't be read", detail)
    }
    static func notFound(_ what: String) -> APIError {
        .init(404, "not-found", "There is no such thing", "\(what): there is no such object")
    }
    static func invalid(_ object: String, _ reason: String, _ remedy: String) -> APIError {
        let problem = Problem(object, reason, remedy: remedy)
        return .init(422, "invalid", "What would come out is wrong", "\(object): \(reason)", problems: [problem])
    }

    /// What became of a transaction that did not become anything.
    public init(_ failure: Outcome.Failure, _ problems: [Problem]) {
        let detail = problems.map { "\($0.object): \($0.reason)" }.joined(separator: "; ")
        switch failure {
        case .conflict: self.init(409, "conflict", "It was changed meanwhile", detail, problems: problems)
        case .invalid: self.init(422, "invalid", "What would come out is wrong", detail, problems: problems)
        case .notFound: self.init(404, "not-found", "There is no such thing", detail, problems: problems)
        case .refused: self.init(409, "refused", "Something forbids it", detail, problems: problems)
        case .sessionExpired:
            self.init(503, "unknown-outcome", "It is not known whether it was done", detail, problems: problems)
        }
    }

    /// Whatever went wrong.
    public init(_ error: any Error) {
        switch error {
        case let error as APIError: self = error
        case let error as StoreRefusal:
            switch error {
            case .noQuorum: self.init(503, "no-quorum", "The cluster can't agree", error.description)
            case .busy: self.init(503, "busy", "Too much is asked at once", error.description)
            case .unknownOutcome:
                self.init(503, "unknown-outcome", "It is not known whether it was done", error.description)
            case .unreachable: self.init(502, "unreachable", "A node can't be reached", error.description)
            case .remote: self.init(502, "remote", "Another node refused", error.description)
            case .stopped: self.init(503, "stopped", "This node takes no part", error.description)
            case .changing, .refused: self.init(409, "refused", "Something forbids it", error.description)
            }
        default: self.init(500, "fault", "A fault of Selvage", "\(error)")
        }
    }
}
