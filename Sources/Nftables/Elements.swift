import CNftables
import Ruleset

/// Elements of sets as the kernel takes them.
struct LoweredElement: Hashable {
    var key: [UInt8]
    /// The last key, in concatenations with ranges.
    var lastKey: [UInt8]?
    /// The first value behind an interval of a set of one type.
    var isIntervalEnd = false
    var value: Value?
    /// Seconds.
    var timeout: Int?

    /// What the key leads to.
    enum Value: Hashable {
        case verdict(Verdict)
        /// An object's name.
        case object(String)
        case data([UInt8])
    }
}

extension NamedSet {
    /// Bytes of a key; parts of a concatenation are filled up to whole registers.
    var keyLength: Int {
        key.count == 1 ? key[0].length : key.reduce(0) { $0 + $1.paddedLength }
    }

    /// Bytes of a key in registers.
    var paddedKeyLength: Int { key.reduce(0) { $0 + $1.paddedLength } }

    /// nft's number for the key: of a concatenation six bits a part.
    var keyType: UInt32 { key.reduce(0) { $0 << 6 | $1.number } }

    /// What an element of this map leads to.
    private func lower(_ value: SetElement.Value?) throws(UnsupportedRuleset) -> LoweredElement.Value? {
        switch (content, value) {
        case (.members, nil): return nil
        case (.verdicts, .verdict(let verdict)):
            if let target = verdict.target { try Bounds.check(name: target) }
            return .verdict(verdict)
        case (.counters, .counter(let name)):
            try Bounds.check(name: name)
            return .object(name)
        case (.ranges(let types), .data(let data)):
            var parts = [data]
            if case .concatenation(let items) = data { parts = items }
            guard parts.count == types.count else {
                throw UnsupportedRuleset("\(data.json.line) in the map \(name), to \(types.count) ranges")
            }
            var (first, last): ([UInt8], [UInt8]) = ([], [])
            for (part, type) in zip(parts, types) {
                let ends = try type.interval(part)
                first += type.padded(ends.first)
                last += type.padded(ends.last)
            }
            return .data(first + last)
        case (.values(let types), .data(let data)):
            if types.count == 1 { return .data(try types[0].bytes(data)) }
            guard case .concatenation(let parts) = data, parts.count == types.count else {
                throw UnsupportedRuleset("\(data.json.line) in the map \(name), to \(types.count) values")
            }
            var bytes: [UInt8] = []
            for (part, type) in zip(parts, types) { bytes += type.padded(try type.bytes(part)) }
            return .data(bytes)
        default:
            let found = value.map { SetElement(.number(0), $0).json.list?.last?.line ?? "" } ?? "nothing"
            throw UnsupportedRuleset("an element of \(name) leads to \(found), which the set is not declared for")
        }
    }

    /// Elements as the kernel takes them: an interval of one type is its start and the value behind its end.
    func lower(_ elements: [SetElement]) throws(UnsupportedRuleset) -> [LoweredElement] {
        var result: [LoweredElement] = []
        result.reserveCapacity(elements.count)
        for element in elements {
            let value = try lower(element.value)
            guard key.count > 1 else {
                guard let type = key.first else { throw UnsupportedRuleset("the set \(name) without a key") }
                guard flags.contains(.interval) else {
                    result.append(
                        LoweredElement(
                            key: try type.bytes(element.key), value: value, timeout: element.timeout))
                    continue
                }
                let ends = try type.interval(element.key)
                result.append(LoweredElement(key: ends.first, value: value, timeout: element.timeout))
                if let next = successor(of: ends.last) {
                    result.append(LoweredElement(key: next, isIntervalEnd: true))
                }
                continue
            }
            guard case .concatenation(let parts) = element.key, parts.count == key.count else {
                throw UnsupportedRuleset(
                    "\(element.key.json.line) in the set \(name), whose key has \(key.count) parts")
            }
            var (first, last): ([UInt8], [UInt8]) = ([], [])
            for (part, type) in zip(parts, key) {
                let ends = try type.interval(part)
                first += type.padded(ends.first)
                last += type.padded(ends.last)
            }
            if first != last, !flags.contains(.interval) {
                throw UnsupportedRuleset(
                    "\(element.key.json.line) in the set \(name), which is not declared with intervals")
            }
            result.append(
                LoweredElement(
                    key: first, lastKey: flags.contains(.interval) ? last : nil, value: value,
                    timeout: element.timeout))
        }
        return result
    }
}

extension LoweredElement {
    /// As libnftnl has it; the set that takes it owns it.
    func make() -> OpaquePointer? {
        guard let element = nftnl_set_elem_alloc() else { return nil }
        nftnl_set_elem_set(element, UInt16(NFTNL_SET_ELEM_KEY), key, UInt32(key.count))
        if let lastKey { nftnl_set_elem_set(element, UInt16(NFTNL_SET_ELEM_KEY_END), lastKey, UInt32(lastKey.count)) }
        if isIntervalEnd {
            nftnl_set_elem_set_u32(
                element, UInt16(NFTNL_SET_ELEM_FLAGS), UInt32(NFT_SET_ELEM_INTERVAL_END.rawValue))
        }
        switch value {
        case .verdict(let verdict):
            nftnl_set_elem_set_u32(element, UInt16(NFTNL_SET_ELEM_VERDICT), UInt32(bitPattern: verdict.code))
            if let chain = verdict.target { nftnl_set_elem_set_str(element, UInt16(NFTNL_SET_ELEM_CHAIN), chain) }
        case .object(let name): nftnl_set_elem_set_str(element, UInt16(NFTNL_SET_ELEM_OBJREF), name)
        case .data(let bytes): nftnl_set_elem_set(element, UInt16(NFTNL_SET_ELEM_DATA), bytes, UInt32(bytes.count))
        case nil: break
        }
        if let timeout {
            nftnl_set_elem_set_u64(element, UInt16(NFTNL_SET_ELEM_TIMEOUT), UInt64(timeout) * 1000)
        }
        return element
    }
}
