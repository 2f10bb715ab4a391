// SPDX-License-Identifier: Apache-2.0

/// A list of plain records in pages: a copy that differs in few places shares the other pages, and reading a record touches
/// nothing but the record.
struct PlainPages<Element: BitwiseCopyable & Sendable>: Sendable {
    private static var pageSize: Int { 256 }

    // `@unchecked`: written only through `PlainPages`, and only while nothing else holds the page.
    private final class Page: @unchecked Sendable {
        let elements = UnsafeMutablePointer<Element>.allocate(capacity: PlainPages.pageSize)

        init(filledWith element: Element) { elements.initialize(repeating: element, count: PlainPages.pageSize) }
        init(copying other: Page) { elements.initialize(from: other.elements, count: PlainPages.pageSize) }
        deinit { elements.deallocate() }
    }

    private var pages: [Page] = []
    /// Where the records of each page are, so that reading one needs no reference to its page. They stand as long as `pages` does.
    private nonisolated(unsafe) var bases: [UnsafeMutablePointer<Element>] = []
    private(set) var count = 0

    @inline(__always)
    subscript(_ index: Int) -> Element {
        get { bases[index / Self.pageSize][index % Self.pageSize] }
        set {
            let page = index / Self.pageSize
            if !isKnownUniquelyReferenced(&pages[page]) {
                pages[page] = Page(copying: pages[page])
                bases[page] = pages[page].elements
            }
            bases[page][index % Self.pageSize] = newValue
        }
    }

    mutating func append(_ element: Element) {
        if count % Self.pageSize == 0 {
            let page = Page(filledWith: element)
            pages.append(page)
            bases.append(page.elements)
        }
        count += 1
        self[count - 1] = element
    }
}
