extension StringProtocol {
    /// Without the leading and trailing characters for which `isUnwanted` is true.
    func trimming(_ isUnwanted: (Character) -> Bool) -> String {
        var rest = self[...].drop(while: isUnwanted)
        while let last = rest.last, isUnwanted(last) { rest = rest.dropLast() }
        return String(rest)
    }
}
