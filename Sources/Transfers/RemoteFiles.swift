import CSystem
import Files
import Glibc

/// What reads files of servers into memory: in this process, or in another one that has the
/// network.
public protocol RemoteFiles: AnyObject {
    var options: Reader.Options { get }

    /// As ``Reader/read(_:most:range:deadline:)``.
    func read(_ url: String, most: Int, range: Range<Int>?, deadline: Int?) throws(DownloadFailure) -> [UInt8]
}

extension Reader: RemoteFiles {}

/// Reads by a process that has the network and nothing else, over its Unix socket. What it answers
/// is not trusted: the updater verifies the bytes, as it would those of a server.
///
/// A request is lines `KEY VALUE` and an empty one; the answer is `ok COUNT` and so many bytes, or
/// the reason of a failure as ``DownloadFailure/Reason`` has it.
public final class RemoteReader: RemoteFiles {
    public let options: Reader.Options
    private let socket: String
    private var connection: File?
    /// Local files need no network.
    private lazy var local = Reader(options)
    /// Seconds that an answer may take beyond what libcurl's own bounds allow.
    private static let grace = 60

    public init(_ options: Reader.Options, socket: String) { (self.options, self.socket) = (options, socket) }

    public func read(
        _ url: String, most: Int, range: Range<Int>? = nil, deadline: Int? = nil
    ) throws(DownloadFailure) -> [UInt8] {
        if url.hasPrefix("file:") { return try local.read(url, most: most, range: range, deadline: deadline) }
        let request = FetchRequest(url: url, most: most, range: range, deadline: deadline, options: options)
        do {
            return try ask(request)
        } catch let failure as DownloadFailure {
            throw failure
        } catch {
            connection = nil
            throw DownloadFailure(url: url, reason: .transfer("the fetcher does not answer: \(error)"))
        }
    }

    private func ask(_ request: FetchRequest) throws -> [UInt8] {
        let file = try connection ?? connect()
        connection = file
        let bytes = Array(request.text.utf8)
        guard send(file.descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw SystemError("send", socket)
        }
        let stream = FetchStream(
            file.descriptor, patience: (request.deadline ?? 4 * options.stallTime) + Self.grace)
        let words = try stream.line().split(separator: " ", maxSplits: 1).map(String.init)
        let rest = words.count > 1 ? words[1] : ""
        let reason: DownloadFailure.Reason
        switch words.first {
        case "ok":
            guard let count = Int(rest), count >= 0, count <= request.most,
                request.range.map({ $0.count == count }) ?? true
            else { throw SystemError("recv", socket, code: EPROTO) }
            return try stream.bytes(count)
        case "gone": reason = .gone
        case "refused": reason = .refused(Int(rest) ?? 400)
        case "mismatch": reason = .mismatch(rest)
        case "local": reason = .local(rest)
        case "transfer": reason = .transfer(rest)
        default: throw SystemError("recv", socket, code: EPROTO)
        }
        throw DownloadFailure(url: request.url, reason: reason)
    }

    private func connect() throws -> File {
        let descriptor = csystem_connect_unix(socket, 0)
        guard descriptor >= 0 else { throw SystemError("connect", socket) }
        return File(descriptor: descriptor, path: socket)
    }
}

/// What is fetched for another process.
struct FetchRequest: Hashable {
    var url: String
    var most: Int
    var range: Range<Int>?
    var deadline: Int?
    var options: Reader.Options

    init(url: String, most: Int, range: Range<Int>?, deadline: Int?, options: Reader.Options) {
        (self.url, self.most, self.range) = (url, most, range)
        (self.deadline, self.options) = (deadline, options)
    }

    /// - Parameter lines: without the empty one; nil for what is no request.
    init?(_ lines: [String]) {
        var values: [String: String] = [:]
        for line in lines {
            let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard words.count == 2 else { return nil }
            values[words[0]] = words[1]
        }
        guard let url = values["url"], let most = values["most"].flatMap({ Int($0) }),
            (0...Fetcher.most).contains(most)
        else { return nil }
        if let text = values["range"] {
            let bounds = text.split(separator: " ").compactMap { Int($0) }
            guard bounds.count == 2, bounds[0] >= 0, bounds[0] < bounds[1] else { return nil }
            range = bounds[0]..<bounds[1]
        }
        (self.url, self.most, deadline) = (url, most, values["deadline"].flatMap { Int($0) })
        options = Reader.Options(
            proxy: values["proxy"], bytesPerSecond: values["rate"].flatMap { Int($0) },
            trustAnchors: values["anchors"], stallTime: values["stall"].flatMap { Int($0) } ?? 30)
    }

    var text: String {
        var lines = ["url \(url)", "most \(most)", "stall \(options.stallTime)"]
        if let range { lines.append("range \(range.lowerBound) \(range.upperBound)") }
        if let deadline { lines.append("deadline \(deadline)") }
        if let proxy = options.proxy { lines.append("proxy \(proxy)") }
        if let rate = options.bytesPerSecond { lines.append("rate \(rate)") }
        if let anchors = options.trustAnchors { lines.append("anchors \(anchors)") }
        // A line break in a value would be a line of its own.
        return lines.map { $0.filter { !$0.isNewline } + "\n" }.joined() + "\n"
    }
}

/// The other end: fetches what a connection asks for.
public enum Fetcher {
    /// Bytes of a file that is read at once.
    public static let most = 64 << 20
    private static let mostLines = 16

    /// Answers until the connection ends. Only `http:` and `https:` are fetched.
    public static func serve(_ connection: Int32) {
        let stream = FetchStream(connection, patience: nil)
        var reader: Reader?
        while true {
            var lines: [String] = []
            while lines.count <= mostLines {
                guard let line = try? stream.line() else { return }
                if line.isEmpty { break }
                lines.append(line)
            }
            guard let request = FetchRequest(lines), ["http://", "https://"].contains(where: request.url.hasPrefix)
            else {
                return
            }
            let used = reader.flatMap { $0.options == request.options ? $0 : nil } ?? Reader(request.options)
            reader = used
            var answer: [UInt8]
            do {
                let bytes = try used.read(
                    request.url, most: request.most, range: request.range, deadline: request.deadline)
                answer = Array("ok \(bytes.count)\n".utf8) + bytes
            } catch {
                answer = Array("\(word(of: error.reason))\n".utf8)
            }
            guard stream.send(&answer) else { return }
        }
    }

    private static func word(of reason: DownloadFailure.Reason) -> String {
        let text =
            switch reason {
            case .gone: "gone"
            case .refused(let status): "refused \(status)"
            case .mismatch(let text): "mismatch \(text)"
            case .transfer(let text): "transfer \(text)"
            case .local(let text): "local \(text)"
            }
        return String(text.filter { !$0.isNewline }.prefix(300))
    }
}

/// Lines and bytes of a connection.
private final class FetchStream {
    private let connection: Int32
    /// Seconds until something must have come; nil for ever.
    private let patience: Int?
    private var buffer: [UInt8] = []
    private static let mostOfLine = 8192

    init(_ connection: Int32, patience: Int?) { (self.connection, self.patience) = (connection, patience) }

    func line() throws(SystemError) -> String {
        while true {
            if let end = buffer.firstIndex(of: 0x0A) {
                defer { buffer.removeFirst(end + 1) }
                return String(decoding: buffer[..<end], as: UTF8.self)
            }
            guard buffer.count < Self.mostOfLine else { throw SystemError("recv", "a line", code: EPROTO) }
            try more(4096)
        }
    }

    func bytes(_ count: Int) throws(SystemError) -> [UInt8] {
        while buffer.count < count { try more(min(1 << 20, count - buffer.count)) }
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }

    func send(_ bytes: inout [UInt8]) -> Bool {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(connection, $0.baseAddress.map { $0 + done }, $0.count - done, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            done += count
        }
        return true
    }

    private func more(_ count: Int) throws(SystemError) {
        var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        let ready = poll(&polled, 1, patience.map { Int32(clamping: $0 * 1000) } ?? -1)
        if ready < 0, errno == EINTR { return }
        guard ready > 0 else { throw SystemError("recv", "the other end", code: ETIMEDOUT) }
        var part = [UInt8](repeating: 0, count: count)
        let got = recv(connection, &part, count, 0)
        if got < 0, errno == EINTR { return }
        guard got > 0 else { throw SystemError("recv", "the other end", code: got == 0 ? ECONNRESET : errno) }
        buffer += part[..<got]
    }
}
