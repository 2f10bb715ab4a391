// SPDX-License-Identifier: Apache-2.0

/// Since when sessions are there, as it was told first: daemons that tell how long it has been are off by one at times.
struct SteadyTimes {
    private var since: [String: Int64] = [:]

    /// Says of each session the time that was said before, if it is the same.
    mutating func steady(_ peers: inout [PeerStatus]) {
        let known = since
        since = [:]
        for place in peers.indices {
            guard let told = peers[place].since else { continue }
            let steady = known[peers[place].address].flatMap { abs($0 - told) <= 1 ? $0 : nil } ?? told
            (peers[place].since, since[peers[place].address]) = (steady, steady)
        }
    }
}
