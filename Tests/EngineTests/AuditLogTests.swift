import Documents
@testable import Engine
import Files
import Glibc
import PluginKit
import Testing

/// What the audit log keeps.
@Suite final class AuditLogTests {
    private let folder: String
    /// In milliseconds.
    private final class Time { var now = 1_000_000 }
    private let time = Time()

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-audit") }

    deinit { try? FileSystem.remove(folder) }

    private func log(_ bounds: AuditLog.Bounds = .init()) -> AuditLog {
        AuditLog(
            folder: "\(folder)/audit", bounds: bounds, now: { [time] in time.now / 1000 },
            milliseconds: { [time] in time.now })
    }

    private static let alice = AuditSubject(user: "alice", uid: 1, role: .administrator, origin: "console ttyS0")
    private static let rita = AuditSubject(user: "rita", uid: 2, role: .readOnly, origin: "ssh 192.0.2.7 4711")

    private func records(_ query: JSON = [:]) throws -> [AuditRecord] { log().records(try AuditQuery(query)) }

    @Test func recordsSurviveARestart() throws {
        log().add(Self.alice, "commit", "commit=3", .done)
        log().add(Self.rita, "commit", "", .refused, reason: "commit is for the role customer")
        let records = try records()
        #expect(records.map(\.number) == [1, 2] && records.map(\.subject) == [Self.alice, Self.rita])
        #expect(records[0].details == "commit=3" && records[1].outcome == .refused)
        var status = stat()
        #expect(stat("\(folder)/audit/others", &status) == 0 && status.st_mode & 0o777 == 0o600)
    }

    /// Power loss leaves a part of a line.
    @Test func aTornRecordSpoilsNoOther() throws {
        log().add(Self.alice, "login", "", .done)
        let path = "\(folder)/audit/administrators"
        let whole = try FileSystem.read(path)
        for length in 0...whole.count {
            try FileSystem.replace(path, with: whole + whole.prefix(length))
            log().add(Self.alice, "logout", "", .done)
            #expect(try records().suffix(1).map(\.what) == ["logout"], "\(length)")
            #expect(try records().first?.what == "login")
        }
    }

    /// 100 refusals at once: their number is in the log, whatever the limit.
    @Test func refusalsBeyondTheLimitAreCounted() throws {
        let log = log(.init(burst: 10))
        for _ in 0..<100 { log.add(Self.rita, "apply", "", .refused, reason: "no") }
        // Others are not concerned.
        log.add(Self.alice, "commit", "", .done)
        let due = try #require(log.due)
        time.now = due
        log.step()
        let refused = try records(["user": "rita"])
        #expect(refused.reduce(0) { $0 + $1.count } == 100)
        #expect(refused.count == 11 && refused.last?.count == 90 && refused.last?.subject == Self.rita)
        #expect(try records(["user": "alice"]).map(\.count) == [1])
        #expect(log.due == nil)
        // With time, records of their own are allowed again.
        time.now += 60_000
        log.add(Self.rita, "apply", "", .refused)
        #expect(try records(["user": "rita"]).last?.count == 1)
    }

    /// However many kinds there are, the memory is bounded and the sum is right.
    @Test func manyKindsAreBounded() throws {
        let log = log(.init(burst: 1, kinds: 4))
        for number in 0..<1000 {
            let subject = AuditSubject(user: "u\(number % 50)", uid: 100 + number % 50, role: nil, origin: "\(number)")
            log.add(subject, "request \(number)", "", .refused)
        }
        log.flush()
        let records = try records(["most": 1000])
        #expect(records.reduce(0) { $0 + $1.count } == 1000)
        #expect(records.count <= 50 + 3 * 4 + 1)
    }

    /// A user without rights can't push an administrator's records out.
    @Test func othersDoNotPushAdministratorsOut() throws {
        let bounds = AuditLog.Bounds(bytes: 4096, burst: 1_000_000)
        let log = log(bounds)
        log.add(Self.alice, "commit", "commit=1", .done)
        for _ in 0..<500 { log.add(Self.rita, "apply", "", .refused, reason: "no") }
        let all = try records(["most": 1000])
        #expect(all.first?.details == "commit=1" && all.last?.number == 501)
        // A gap tells that records are gone.
        #expect(all.count < 100 && all.count > 20)
        for name in try FileSystem.list("\(folder)/audit") {
            #expect(try FileSystem.read("\(folder)/audit/\(name)").count <= bounds.bytes)
        }
    }

    @Test func aQueryIsOfWhatItNames() throws {
        let log = log()
        log.add(Self.alice, "upgrade install", "", .done)
        log.add(Self.rita, "login", "", .done)
        time.now += 10_000
        log.add(Self.rita, "apply", "", .refused)
        #expect(try records(["what": "upgrade"]).count == 1)
        #expect(try records(["user": "rita", "outcome": "refused"]).map(\.what) == ["apply"])
        #expect(try records(["since": .integer(time.now / 1000)]).map(\.number) == [3])
        #expect(try records(["after": 1, "most": 1]).map(\.number) == [3])
        #expect(throws: EngineError.self) { try AuditQuery(["outcome": "doen"]) }
        #expect(throws: EngineError.self) { try AuditQuery(["most": 0]) }
    }

    @Test func anOriginIsWhatKernelAndSSHDTell() throws {
        func process(_ environment: String, stdin: String, cgroup: String) throws -> String {
            let folder = "\(folder)/proc/7"
            try FileSystem.makeDirectory("\(folder)/fd")
            try FileSystem.replace("\(folder)/environ", with: environment)
            try FileSystem.replace("\(folder)/cgroup", with: cgroup)
            try? FileSystem.remove("\(folder)/fd/0")
            symlink(stdin, "\(folder)/fd/0")
            return CallerOrigin.text(of: 7, proc: "\(self.folder)/proc")
        }
        let sshd = "0::/services/system-sshd/s\n"
        #expect(
            try process("A=b\0SSH_CONNECTION=2001:db8::7 50000 2001:db8::1 22\0", stdin: "/dev/pts/0", cgroup: sshd)
                == "ssh 2001:db8::7 50000")
        #expect(try process("HOME=/", stdin: "/dev/ttyS0", cgroup: "0::/services/x\n") == "console ttyS0")
        #expect(try process("", stdin: "/dev/null", cgroup: sshd) == "service system-sshd")
        #expect(try process("SSH_CONNECTION=\u{1b}[2J 1 x 1", stdin: "/dev/null", cgroup: "0::/\n") == "")
        #expect(CallerOrigin.text(of: 0) == "")
    }
}
