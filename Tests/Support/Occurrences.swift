extension String {
    /// How often a text stands in it.
    public func occurrences(of text: String) -> Int {
        var (count, rest) = (0, self[...])
        while let place = rest.firstRange(of: text) {
            count += 1
            rest = rest[place.upperBound...]
        }
        return count
    }
}
