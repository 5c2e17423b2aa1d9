import Files

/// /etc/passwd and /etc/group at one moment.
struct Accounts {
    struct Group: Hashable {
        var gid: Int
        var members: [String]
    }

    var users: [String: Users.User] = [:]
    var groups: [String: Group] = [:]

    static func read() -> Accounts {
        var accounts = Accounts()
        for fields in lines("/etc/passwd", count: 7) {
            accounts.users[fields[0]] = Users.User(
                uid: Int(fields[2]) ?? 0, gid: Int(fields[3]) ?? 0, comment: fields[4], home: fields[5],
                shell: fields[6])
        }
        for fields in lines("/etc/group", count: 4) {
            accounts.groups[fields[0]] = Group(
                gid: Int(fields[2]) ?? 0, members: fields[3].split(separator: ",").map(String.init).sorted())
        }
        return accounts
    }

    private static func lines(_ path: String, count: Int) -> [[String]] {
        let text = String(decoding: (try? FileSystem.read(path)) ?? [], as: UTF8.self)
        return text.split(separator: "\n").map {
            $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        }.filter { $0.count == count }
    }

    /// The first name in alphabetical order: two names may have one number.
    func name(ofUser id: Int) -> String { users.filter { $0.value.uid == id }.keys.min() ?? String(id) }
    func name(ofGroup id: Int) -> String { groups.filter { $0.value.gid == id }.keys.min() ?? String(id) }
}
