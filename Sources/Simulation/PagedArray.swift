// SPDX-License-Identifier: Apache-2.0

/// A list in pages: a copy that differs in few places shares the other pages. For elements that are costly to copy.
struct PagedArray<Element: Sendable>: Sendable {
    private static var pageSize: Int { 128 }
    private var pages: [[Element]] = []
    private(set) var count = 0

    subscript(_ index: Int) -> Element {
        get { pages[index / Self.pageSize][index % Self.pageSize] }
        set { pages[index / Self.pageSize][index % Self.pageSize] = newValue }
    }

    mutating func append(_ element: Element) {
        if count % Self.pageSize == 0 { pages.append([]) }
        pages[count / Self.pageSize].append(element)
        count += 1
    }
}
