import Files

extension FATVolume {
    /// Room for a file that has no name yet: nobody sees it before ``publish(_:as:)``, and after a cut of power nothing of it is left but what
    /// the same room holds when it is made anew.
    public struct Room: RandomAccess {
        let storage: any RandomAccess
        let clusterSize: Int
        let dataOffset: Int
        let clusters: [Int]
        public let size: Int

        public var path: String { storage.path }

        private func pieces(_ count: Int, at offset: Int) -> [(place: Int, count: Int)] {
            var (list, done): ([(place: Int, count: Int)], Int) = ([], 0)
            while done < count {
                let (index, within) = (offset + done).quotientAndRemainder(dividingBy: clusterSize)
                guard clusters.indices.contains(index) else { break }
                let piece = min(count - done, clusterSize - within)
                let place = dataOffset + (clusters[index] - 2) * clusterSize + within
                if let last = list.last, last.place + last.count == place {
                    list[list.count - 1].count += piece
                } else {
                    list.append((place, piece))
                }
                done += piece
            }
            return list
        }

        public func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
            var bytes: [UInt8] = []
            for piece in pieces(max(0, min(count, size - offset)), at: offset) {
                bytes += try storage.read(piece.count, at: piece.place)
            }
            return bytes
        }

        /// What lies behind the file's size is left out: blocks may be larger than what is left of a file.
        public func write(_ bytes: [UInt8], at offset: Int) throws(SystemError) {
            var done = 0
            for piece in pieces(max(0, min(bytes.count, size - offset)), at: offset) {
                try storage.write(Array(bytes[done..<done + piece.count]), at: piece.place)
                done += piece.count
            }
        }

        public func sync() throws(SystemError) { try storage.sync() }
    }
}
