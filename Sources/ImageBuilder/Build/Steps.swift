import Digests
import Files
import Glibc

/// Records the inputs of each step beside the outputs, so that a step with unchanged inputs is
/// skipped.
struct Steps {
    /// The inputs and outputs of a step.
    struct Record: Hashable {
        /// Digest of each input by its name.
        var inputs: [String: String] = [:]
        /// Size and time of change of each output by its file's name.
        var outputs: [String: String] = [:]
        /// Values that later steps need.
        var values: [String: String] = [:]
    }

    let folder: String
    let observe: BuildObserver

    init(folder: String, observe: @escaping BuildObserver) throws {
        self.folder = folder
        self.observe = observe
        try FileSystem.makeDirectory("\(folder)/.steps")
    }

    /// Runs `body` unless the step's inputs and outputs are unchanged.
    ///
    /// - Parameters:
    ///   - name: unique within the folder.
    ///   - outputs: names of the files that the step makes in the folder.
    ///   - body: makes the outputs; returns a note for the operator and values for later steps.
    /// - Returns: the values.
    func run(
        _ name: String, inputs: [String: String], outputs: [String],
        _ body: () async throws -> (note: String, values: [String: String])
    ) async throws -> [String: String] {
        let old = read(name)
        let reasons = reasons(old, inputs, outputs)
        if reasons.isEmpty, let old {
            observe(.unchanged(step: name))
            return old.values
        }
        observe(.started(step: name, reasons: reasons))
        let start = Clock.seconds
        try FileSystem.remove(path(name))
        let (note, values) = try await body()
        var record = Record(inputs: inputs, values: values)
        for output in outputs { record.outputs[output] = stamp(output) }
        try write(record, name)
        observe(.finished(step: name, note: note, seconds: Clock.seconds - start))
        return values
    }

    private func reasons(_ old: Record?, _ inputs: [String: String], _ outputs: [String]) -> [String] {
        guard let old else { return ["it was not built here before"] }
        var reasons: [String] = []
        for name in Set(inputs.keys).union(old.inputs.keys).sorted() where inputs[name] != old.inputs[name] {
            reasons.append(
                old.inputs[name] == nil
                    ? "\(name) is new" : inputs[name] == nil ? "\(name) was removed" : "\(name) changed"
            )
        }
        for output in outputs where old.outputs[output] == nil || stamp(output) != old.outputs[output] {
            reasons.append(stamp(output) == nil ? "\(output) is missing" : "\(output) was modified")
        }
        return reasons
    }

    private func stamp(_ output: String) -> String? {
        var status = stat()
        guard stat("\(folder)/\(output)", &status) == 0 else { return nil }
        return "\(status.st_size) \(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec) \(status.st_ino)"
    }

    private func path(_ name: String) -> String { "\(folder)/.steps/\(name)" }

    private func read(_ name: String) -> Record? {
        guard let bytes = try? FileSystem.read(path(name)) else { return nil }
        var record = Record()
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let columns = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            guard columns.count == 3 else { return nil }
            switch columns[0] {
            case "input": record.inputs[columns[1]] = columns[2]
            case "output": record.outputs[columns[1]] = columns[2]
            default: record.values[columns[1]] = columns[2]
            }
        }
        return record
    }

    private func write(_ record: Record, _ name: String) throws {
        var lines: [String] = []
        for (kind, table) in [("input", record.inputs), ("output", record.outputs), ("value", record.values)] {
            lines += table.sorted { $0.key < $1.key }.map { "\(kind)\t\($0.key)\t\($0.value)" }
        }
        try FileSystem.replace(path(name), with: lines.joined(separator: "\n") + "\n")
    }
}

/// Seconds of the monotonic clock.
public enum Clock {
    public static var seconds: Double {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
    }
}
