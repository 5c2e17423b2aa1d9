import PluginKit

extension PluginManifest {
    /// What a plan's resources, or published values, of the plugin ask for beyond what it may have.
    ///
    /// - Parameter isOwn: whether it is one of the project's own plugins.
    public func violations(
        plan resources: [Resource], published: [JSON] = [], isOwn: Bool
    ) -> [PermissionViolation] {
        let check = PermissionCheck(self, isOwn: isOwn)
        var found: [PermissionViolation] = []
        func note(_ body: () throws(PermissionViolation) -> Void) {
            do { try body() } catch { found.append(error) }
        }
        var chains: [String: Chain] = [:]
        var staged: [(chain: Chain, stage: Stage)] = []
        for resource in resources {
            note { () throws(PermissionViolation) in try check.check(resource) }
            guard case .chain(let chain, let use)? = resource.as(NftablesResource.self) else { continue }
            chains[chain.name] = chain
            if let stage = use?.stage { staged.append((chain, stage)) }
        }
        if let acceptance = check.acceptance(of: staged, in: chains) { found.append(acceptance) }
        for line in published {
            guard let collection = line["publish"]?.text, let name = line["name"]?.text, let value = line["value"]
            else { continue }
            note { () throws(PermissionViolation) in try check.check(publishing: value, name, in: collection) }
        }
        return found
    }
}
