import Disks

/// A unified kernel image (UAPI.5): systemd's stub with kernel, initramfs and command line as
/// additional PE sections.
public enum UnifiedKernelImage {
    /// Appends `sections` to a PE image (Microsoft's PE format specification).
    ///
    /// Each section follows all earlier ones in memory, aligned to 4096 bytes: the stub reads them
    /// from memory. Time stamp and checksum are zeroed, so the same input gives the same bytes.
    ///
    /// - Parameter stub: `linuxx64.efi.stub`.
    /// - Throws: ``UnifiedKernelImageError`` when the stub is not a PE image or has no room for the
    ///   headers.
    public static func append(_ sections: [(name: String, bytes: [UInt8])], to stub: [UInt8]) throws -> [UInt8] {
        var image = stub
        guard let header = image.integer(at: 0x3C, UInt32.self).map(Int.init),
            image.integer(at: header, UInt32.self) == 0x0000_4550,
            let count = image.integer(at: header + 6, UInt16.self).map(Int.init),
            let optionalSize = image.integer(at: header + 20, UInt16.self).map(Int.init),
            let fileAlignment = image.integer(at: header + 24 + 36, UInt32.self).map(Int.init),
            let headersSize = image.integer(at: header + 24 + 60, UInt32.self).map(Int.init), fileAlignment > 0
        else { throw UnifiedKernelImageError(description: "the stub is not a PE image") }
        let table = header + 24 + optionalSize
        guard table + (count + sections.count) * 40 <= headersSize else {
            throw UnifiedKernelImageError(
                description: "the stub's headers have no room for \(sections.count) more sections")
        }
        var address = 0
        for i in 0..<count {
            let entry = table + i * 40
            guard let size = image.integer(at: entry + 8, UInt32.self),
                let start = image.integer(at: entry + 12, UInt32.self)
            else { throw UnifiedKernelImageError(description: "the stub's section table is truncated") }
            address = max(address, Int(start + size))
        }
        for (i, section) in sections.enumerated() {
            address = address.rounded(upTo: 4096)
            let offset = image.count.rounded(upTo: fileAlignment)
            var entry = LittleEndian()
            entry.put(Array(section.name.utf8))
            entry.pad(to: 8)
            entry.put(UInt32(section.bytes.count))
            entry.put(UInt32(address))
            entry.put(UInt32(section.bytes.count.rounded(upTo: fileAlignment)))
            entry.put(UInt32(offset))
            entry.pad(to: 36)
            entry.put(UInt32(0x4000_0040))  // initialized data, readable
            let start = table + (count + i) * 40
            image.replaceSubrange(start..<start + 40, with: entry.bytes)
            image += [UInt8](repeating: 0, count: offset - image.count)
            image += section.bytes
            address += section.bytes.count
        }
        image += [UInt8](repeating: 0, count: image.count.rounded(upTo: fileAlignment) - image.count)
        image.put(UInt16(count + sections.count), at: header + 6)
        image.put(UInt32(0), at: header + 8)  // time stamp
        image.put(UInt32(address.rounded(upTo: 4096)), at: header + 24 + 56)  // size in memory
        image.put(UInt32(0), at: header + 24 + 64)  // checksum
        return image
    }

    /// The contents of a section; nil when there is no such section.
    public static func section(_ name: String, of image: [UInt8]) throws -> [UInt8]? {
        try range(of: name, in: image).map { Array(image[$0]) }
    }

    /// The range of a section's contents in the image; nil when there is no such section.
    public static func range(of name: String, in image: [UInt8]) throws -> Range<Int>? {
        guard let header = image.integer(at: 0x3C, UInt32.self).map(Int.init),
            let count = image.integer(at: header + 6, UInt16.self).map(Int.init),
            let optionalSize = image.integer(at: header + 20, UInt16.self).map(Int.init)
        else { throw UnifiedKernelImageError(description: "not a PE image") }
        for i in 0..<count {
            let entry = header + 24 + optionalSize + i * 40
            guard let size = image.integer(at: entry + 8, UInt32.self).map(Int.init),
                let offset = image.integer(at: entry + 20, UInt32.self).map(Int.init), offset + size <= image.count
            else { throw UnifiedKernelImageError(description: "the section table is truncated") }
            if image[entry..<entry + 8].prefix(while: { $0 != 0 }).elementsEqual(name.utf8) {
                return offset..<offset + size
            }
        }
        return nil
    }
}

/// A PE image that is invalid, or has no room for more sections.
public struct UnifiedKernelImageError: Error, CustomStringConvertible {
    public var description: String
}
