import Documents

/// A kind of statement: a value, and its JSON in libnftables' schema. How the kernel gets it is in
/// `Sources/Nftables/Expressions`, what a packet meets in it in `Sources/Planning/Walk`, each in a
/// file of the same name.
public protocol StatementType: Sendable, Hashable {
    /// The keys of libnftables' objects that are read as this kind; none for what no plan may have.
    static var names: [String] { get }

    /// Reads the value of one of those keys.
    ///
    /// - Parameter json: the object around it, for errors.
    init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset)

    var json: JSON { get }
}

/// All kinds that plans may have, beside the frequent ones, which are cases of ``Statement``.
public enum StatementTypes {
    public static let all: [any StatementType.Type] = [
        Statement.CounterMap.self, Statement.Duplicate.self, Statement.ElementUpdate.self,
        Statement.FlowOffload.self, Statement.Forward.self, Statement.HelperAssignment.self, Statement.Limit.self,
        Statement.Log.self, Statement.Mangle.self, Statement.MapUpdate.self, Statement.Masquerade.self,
        Statement.NAT.self, Statement.NoTrack.self, Statement.Queue.self, Statement.Rejection.self,
        Statement.SynProxy.self, Statement.Trace.self, Statement.TransparentProxy.self,
    ]

    static let byName: [String: any StatementType.Type] = {
        var result: [String: any StatementType.Type] = [:]
        for type in all { for name in type.names { result[name] = type } }
        return result
    }()
}

extension StatementType {
    fileprivate func isEqual<Other: StatementType>(to other: Other) -> Bool {
        // The runtime's cast is needed for equal types alone, where it is a copy.
        guard Other.self == Self.self, let other = other as? Self else { return false }
        return other == self
    }

    fileprivate func hash(withTypeInto hasher: inout Hasher) {
        hasher.combine(ObjectIdentifier(Self.self))
        hash(into: &hasher)
    }
}

/// A statement of any kind.
///
/// It is one reference, so that copies of the frequent statements, which share their memory layout with it, stay cheap.
public struct AnyStatement: Sendable, Hashable, CustomStringConvertible {
    private final class Box: Sendable {
        let value: any StatementType
        init(_ value: any StatementType) { self.value = value }
    }

    private let box: Box

    init(_ value: any StatementType) { box = Box(value) }

    public var value: any StatementType { box.value }

    public var description: String { "\(value)" }

    public static func == (one: AnyStatement, other: AnyStatement) -> Bool {
        one.box === other.box || one.value.isEqual(to: other.value)
    }

    public func hash(into hasher: inout Hasher) { value.hash(withTypeInto: &hasher) }
}

extension Statement {
    public init(_ value: some StatementType) { self = .other(AnyStatement(value)) }
}
