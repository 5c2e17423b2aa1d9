/// The candidate that a person most likely meant by `word`, or nil when none is near.
///
/// Nearness is the edit distance with transpositions (Damerau, optimal string alignment), at most a third of the word's
/// length and never more than three.
public func didYouMean(_ word: String, among candidates: [String]) -> String? {
    let limit = min(3, max(1, word.count / 3))
    let ranked = candidates.map { (distance: editDistance(word, $0), candidate: $0) }
        .filter { $0.distance <= limit }
    return ranked.min { ($0.distance, $0.candidate) < ($1.distance, $1.candidate) }?.candidate
}

private func editDistance(_ a: String, _ b: String) -> Int {
    let a = Array(a.utf8)
    let b = Array(b.utf8)
    if abs(a.count - b.count) > 3 { return .max }
    var beforeLast = [Int](repeating: 0, count: b.count + 1)
    var last = Array(0...b.count)
    for i in 0..<a.count {
        var row = [i + 1]
        row.reserveCapacity(b.count + 1)
        for j in 0..<b.count {
            var best = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, beforeLast[j - 1] + 1) }
            row.append(best)
        }
        (beforeLast, last) = (last, row)
    }
    return last[b.count]
}
