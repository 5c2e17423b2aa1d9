extension StringProtocol {
    /// Without the characters at either end that `isUnwanted` names.
    func trimming(_ isUnwanted: (Character) -> Bool) -> String {
        var rest = self[...].drop(while: isUnwanted)
        while let last = rest.last, isUnwanted(last) { rest = rest.dropLast() }
        return String(rest)
    }
}
