/// What differs between two texts, a line at a time, as `diff -u` shows it.
public enum LineDifference {
    /// Lines that stand the same before and behind a change, to show where it is.
    private static let context = 3
    /// Lines up to which the shortest difference is looked for, which takes the square of their number; beyond, all of the
    /// old ones go and all of the new ones come.
    private static let most = 2000

    /// Lines with `-`, `+` or a blank before them, in groups that begin with `@@`; empty for equal texts.
    public static func unified(from old: String, to new: String) -> [String] {
        let (old, new) = (lines(of: old), lines(of: new))
        // What both begin and end with is no matter.
        let head = zip(old, new).prefix { $0 == $1 }.count
        let tail = zip(old.dropFirst(head).reversed(), new.dropFirst(head).reversed()).prefix { $0 == $1 }.count
        let (before, after) = (old[head..<old.count - tail], new[head..<new.count - tail])
        var (removed, inserted): (Set<Int>, Set<Int>) = ([], [])
        if before.count + after.count > most {
            (removed, inserted) = (Set(before.indices), Set(after.indices))
        } else {
            for change in Array(after).difference(from: Array(before)) {
                switch change {
                case .remove(let offset, _, _): removed.insert(head + offset)
                case .insert(let offset, _, _): inserted.insert(head + offset)
                }
            }
        }
        // One line of the result each, with where it stands in both.
        var all: [(mark: Character, text: Substring, old: Int, new: Int)] = []
        var (i, j) = (0, 0)
        while i < old.count || j < new.count {
            if removed.contains(i) {
                all.append(("-", old[i], i, j))
                i += 1
            } else if inserted.contains(j) {
                all.append(("+", new[j], i, j))
                j += 1
            } else {
                all.append((" ", old[i], i, j))
                (i, j) = (i + 1, j + 1)
            }
        }
        var shown = [Bool](repeating: false, count: all.count)
        for (index, line) in all.enumerated() where line.mark != " " {
            for near in max(0, index - context)...min(all.count - 1, index + context) { shown[near] = true }
        }
        var result: [String] = []
        for (index, line) in all.enumerated() where shown[index] {
            if index == 0 || !shown[index - 1] { result.append("@@ line \(line.old + 1), now \(line.new + 1) @@") }
            result.append("\(line.mark)\(line.text)")
        }
        return result
    }

    private static func lines(of text: String) -> [Substring] {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        if lines.last == "" { lines.removeLast() }
        return lines
    }
}
