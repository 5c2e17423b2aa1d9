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

    /// The text with another in the place of each that is found.
    public func replacing(_ texts: [String], with other: String) -> String {
        var result = String(self)
        for text in texts {
            var (done, rest) = ("", result[...])
            while let place = rest.place(of: text) {
                done += rest[..<place.lowerBound] + other
                rest = rest[place.upperBound...]
            }
            result = done + rest
        }
        return result
    }
}
