/// Sizes for people.
public enum Size {
    /// Bytes of a file.
    public static func of(_ path: String) throws(SystemError) -> Int { Int(try File(path).status().st_size) }

    /// Such as `31.4 MB`; powers of 1000, as disks and budgets have them.
    public static func text(_ bytes: Int) -> String {
        if bytes < 1000 { return "\(bytes) B" }
        let units = ["kB", "MB", "GB", "TB"]
        var value = Double(bytes) / 1000
        var unit = 0
        while value >= 999.95, unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) \(units[unit])"
    }
}
