import Documents

extension Shape where Value == Int {
    /// Bits a second, such as `20mbit`.
    public static var bitRate: Shape<Int> {
        .scalar("a rate such as 512kbit, 20mbit or 1gbit a second, of 8kbit to 100gbit") { scalar in
            let units = ["kbit": 1000, "mbit": 1_000_000, "gbit": 1_000_000_000]
            guard let unit = units[String(scalar.text.suffix(4))], let number = Int(scalar.text.dropLast(4)),
                (1...100_000_000).contains(number), (8000...100_000_000_000).contains(number * unit)
            else { return nil }
            return number * unit
        }
    }
}
