extension StringProtocol {
    /// Where a text stands first, byte by byte. The standard library's own search brings its regular expressions along,
    /// 1.3 MB of the box's executable.
    public func place(of text: String) -> Range<Index>? {
        let (all, wanted) = (Array(utf8), Array(text.utf8))
        guard let first = wanted.first, wanted.count <= all.count else { return nil }
        for start in 0...all.count - wanted.count
        where all[start] == first && all[start..<start + wanted.count].elementsEqual(wanted) {
            let begin = utf8.index(utf8.startIndex, offsetBy: start)
            return begin..<utf8.index(begin, offsetBy: wanted.count)
        }
        return nil
    }
}
