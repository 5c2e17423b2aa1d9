// All that a plugin imports is PluginKit: addresses, documents and rules come with it.
@_exported import Addresses
@_exported import Documents
@_exported import Ruleset
