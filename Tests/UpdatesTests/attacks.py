"""Repositories made with python-tuf, honest and hostile, read by vcpe-tuf and by python-tuf's own client.

    attacks.py VCPE_TUF

Prints a line of JSON for each case: its name, whether each of the two took what was offered, what they trust then, and whether they had to take
it. Serves on the loopback interface only.
"""

import datetime
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from urllib import parse

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp,
)
from tuf.api.serialization.json import JSONSerializer
from tuf.ngclient import Updater

PATH = "lab/1.0/root image"
DATA = b"what is signed"
LATER = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=30)
PAST = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(days=1)
TOP = ["root", "timestamp", "snapshot", "targets"]


class Repository:
    """Metadata as objects; `publish` signs them and makes files of them."""

    def __init__(self, consistent=True, make=CryptoSigner.generate_ed25519):
        self.files = {}
        self.stall = None
        self.endless = None
        self.make = make
        self.signers = {role: {} for role in TOP}
        self.root = Root(1, expires=LATER, consistent_snapshot=consistent)
        for role in TOP:
            self.add_key(role)
        self.timestamp = Timestamp(1, expires=LATER)
        self.snapshot = Snapshot(1, expires=LATER)
        self.targets = {"targets": Targets(1, expires=LATER)}
        self.add_target("targets", PATH, DATA)
        self.publish_root()
        self.publish()

    def add_key(self, role, signer=None):
        signer = signer or self.make()
        self.signers.setdefault(role, {})[signer.public_key.keyid] = signer
        if role in TOP:
            self.root.add_key(signer.public_key, role)
        return signer

    def replace_keys(self, role):
        for key in list(self.root.roles[role].keyids):
            self.root.revoke_key(key, role)
        self.signers[role] = {}
        return self.add_key(role)

    def add_target(self, role, path, data):
        self.targets[role].targets[path] = TargetFile.from_data(path, data, ["sha256"])
        directory, slash, name = path.rpartition("/")
        digest = self.targets[role].targets[path].hashes["sha256"]
        for quoted in [path, f"{directory}{slash}{digest}.{name}"]:
            self.files["targets/" + quoted] = data

    def delegate(self, parent, role, paths, terminating=False, data=None, prefixes=None):
        self.targets[role] = Targets(1, expires=LATER)
        signer = self.add_key(role)
        targets = self.targets[parent]
        if targets.delegations is None:
            targets.delegations = Delegations({}, {})
        targets.delegations.roles[role] = DelegatedRole(
            role, [], 1, terminating, paths if prefixes is None else None, prefixes)
        targets.add_key(signer.public_key, role)
        if data is not None:
            self.add_target(role, PATH, data)
        targets.version += 1

    def sign(self, signed, signers):
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))

    def publish_root(self, signers=None):
        data = self.sign(self.root, signers or self.signers["root"].values())
        self.files[f"metadata/{self.root.version}.root.json"] = data
        return data

    def next_root(self, also=()):
        self.root.version += 1
        return self.publish_root([*self.signers["root"].values(), *also])

    def publish(self, roles=("targets", "snapshot", "timestamp")):
        if "targets" in roles:
            for role, targets in self.targets.items():
                data = self.sign(targets, self.signers[role].values())
                quoted = parse.quote(role, "")
                self.files[f"metadata/{targets.version}.{quoted}.json"] = data
                self.files[f"metadata/{quoted}.json"] = data
                self.snapshot.meta[f"{role}.json"] = MetaFile(targets.version)
        if "snapshot" in roles:
            data = self.sign(self.snapshot, self.signers["snapshot"].values())
            self.files[f"metadata/{self.snapshot.version}.snapshot.json"] = data
            self.files["metadata/snapshot.json"] = data
            self.timestamp.snapshot_meta = MetaFile(self.snapshot.version)
        if "timestamp" in roles:
            self.files["metadata/timestamp.json"] = self.sign(self.timestamp, self.signers["timestamp"].values())

    def bump(self, *roles):
        for role in roles:
            signed = {"timestamp": self.timestamp, "snapshot": self.snapshot}.get(role) or self.targets[role]
            signed.version += 1

    def update(self, data=b"the next one"):
        """An honest release."""
        self.add_target("targets", PATH, data)
        self.bump("targets", "snapshot", "timestamp")
        self.publish()


class Handler(http.server.BaseHTTPRequestHandler):
    repository = None

    def do_GET(self):
        path = self.path.lstrip("/")
        # Roles are asked for by quoted names, targets by paths.
        name = path if path.startswith("metadata/") else parse.unquote(path)
        repository = Handler.repository
        if repository.stall and repository.stall in name:
            self.send_response(200)
            self.end_headers()
            time.sleep(12)
            return
        if repository.endless and repository.endless in name:
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                return
        data = repository.files.get(name)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            pass

    def log_message(self, *_):
        pass


class Client:
    """Either of the two, in folders of its own."""

    def __init__(self, ours, url, root):
        self.ours = ours
        self.url = url
        self.kept = tempfile.TemporaryDirectory(prefix="vcpe-tuf-")
        self.folder = self.kept.name
        self.metadata = os.path.join(self.folder, "metadata")
        self.targets = os.path.join(self.folder, "targets")
        os.mkdir(self.metadata)
        os.mkdir(self.targets)
        self.said = ""
        if ours:
            file = os.path.join(self.folder, "root")
            with open(file, "wb") as f:
                f.write(root)
            self.run("init", file)
        else:
            self.root = root

    def run(self, *words):
        result = subprocess.run(
            [self.ours, "--metadata-dir", self.metadata, "--metadata-url", self.url + "/metadata/", "--target-base-url",
             self.url + "/targets/", "--target-dir", self.targets, "--target-name", PATH, "--stall-time", "3", *words],
            capture_output=True, text=True)
        self.said = result.stderr.strip()
        return result.returncode == 0

    def fetch(self):
        """Refreshes and downloads; whether it went well."""
        if self.ours:
            return self.run("download")
        try:
            updater = Updater(
                self.metadata, self.url + "/metadata/", self.targets, self.url + "/targets/", bootstrap=self.root)
            self.root = None
            updater.refresh()
            info = updater.get_targetinfo(PATH)
            if info is None:
                raise ValueError("unknown target")
            updater.find_cached_target(info) or updater.download_target(info)
            return True
        except Exception as error:
            self.said = f"{type(error).__name__}: {error}"
            return False

    def trusted(self):
        versions = {}
        for role in TOP:
            try:
                with open(os.path.join(self.metadata, f"{role}.json"), "rb") as f:
                    versions[role] = json.load(f)["signed"]["version"]
            except OSError:
                versions[role] = 0
        return versions

    def got(self):
        contents = []
        for name in os.listdir(self.targets):
            with open(os.path.join(self.targets, name), "rb") as f:
                contents.append(f.read().decode(errors="replace"))
        return contents


cases = {}


def case(taken, first=True, **options):
    """A case that changes a repository behind a first good visit, unless `first` is false."""

    def register(function):
        cases[function.__name__] = (function, taken, first, options)
        return function

    return register


# Honest ones.
@case(True)
def an_update(r):
    r.update()


@case(True, consistent=False)
def an_update_without_consistent_snapshots(r):
    r.update()


@case(True, make=CryptoSigner.generate_ecdsa)
def keys_by_ecdsa(r):
    r.update()


@case(True, make=lambda: CryptoSigner.generate_rsa(scheme="rsassa-pss-sha256"))
def keys_by_rsa(r):
    r.update()


@case(True)
def nothing_new(r):
    pass


@case(True)
def fields_that_nobody_knows(r):
    r.root.unrecognized_fields["a b"] = {"ä\u2028\"\\\n": [True, None, -7]}
    r.next_root()


@case(True)
def a_chain_of_roots(r):
    for _ in range(5):
        old = list(r.signers["root"].values())
        r.replace_keys("root")
        r.next_root(also=old)
    r.update()


@case(True)
def every_key_replaced(r):
    old = list(r.signers["root"].values())
    for role in TOP:
        r.replace_keys(role)
    r.next_root(also=old)
    r.update()


@case(True)
def recovery_from_fast_forward(r):
    # Somebody had the online keys and signed versions that nobody reaches.
    r.timestamp.version = r.snapshot.version = 1_000_000
    r.publish(["snapshot", "timestamp"])
    yield
    r.replace_keys("timestamp")
    r.replace_keys("snapshot")
    r.next_root()
    r.timestamp.version = r.snapshot.version = 2
    r.publish()


@case(True)
def a_delegation(r):
    del r.targets["targets"].targets[PATH]
    r.delegate("targets", "channel", ["lab/*/*"], data=b"by another team")
    r.bump("snapshot", "timestamp")
    r.publish()


@case(True)
def delegations_by_hash(r):
    del r.targets["targets"].targets[PATH]
    r.delegate("targets", "bin", None, prefixes=[f"{i:x}" for i in range(16)], data=b"by hash")
    r.bump("snapshot", "timestamp")
    r.publish()


@case(True)
def succinct_delegations(r):
    del r.targets["targets"].targets[PATH]
    signer = r.make()
    succinct = SuccinctRoles([], 1, 4, "bin")
    r.targets["targets"].delegations = Delegations({}, succinct_roles=succinct)
    for role in succinct.get_roles():
        r.targets[role] = Targets(1, expires=LATER)
        r.signers[role] = {signer.public_key.keyid: signer}
    r.targets["targets"].add_key(signer.public_key)
    r.add_target(succinct.get_role_for_target(PATH), PATH, b"in a bin")
    r.bump("targets", "snapshot", "timestamp")
    r.publish()


@case(True)
def a_role_that_would_leave_the_folder(r):
    del r.targets["targets"].targets[PATH]
    r.delegate("targets", "../../out?#", ["*/*/*"], data=b"still inside")
    r.bump("snapshot", "timestamp")
    r.publish()


@case(True)
def a_chain_of_thirty_delegations(r):
    chain(r, 30)


# Arbitrary software.
@case(False)
def another_file_of_the_same_length(r):
    r.update()
    for name in list(r.files):
        if name.startswith("targets/"):
            r.files[name] = bytes(len(r.files[name]))


@case(False)
def a_longer_file(r):
    r.update()
    for name in list(r.files):
        if name.startswith("targets/"):
            r.files[name] += b"!"


@case(False)
def a_shorter_file(r):
    r.update()
    for name in list(r.files):
        if name.startswith("targets/"):
            r.files[name] = r.files[name][:-1]


@case(False)
def a_target_that_nobody_signed(r):
    del r.targets["targets"].targets[PATH]
    r.bump("targets", "snapshot", "timestamp")
    r.publish()


@case(False)
def targets_by_a_strangers_key(r):
    r.signers["targets"] = {}
    signer = r.make()
    r.signers["targets"] = {signer.public_key.keyid: signer}
    r.update()


@case(False)
def a_timestamp_by_a_strangers_key(r):
    signer = r.make()
    r.signers["timestamp"] = {signer.public_key.keyid: signer}
    r.update()


@case(False)
def a_signature_by_the_right_name_and_the_wrong_key(r):
    r.update()
    name = "metadata/timestamp.json"
    document = json.loads(r.files[name])
    document["signatures"][0]["sig"] = document["signatures"][0]["sig"][::-1]
    r.files[name] = json.dumps(document).encode()


@case(False)
def another_file_behind_a_good_signature(r):
    r.update()
    document = json.loads(r.files["metadata/timestamp.json"])
    document["signed"]["version"] += 1
    r.files["metadata/timestamp.json"] = json.dumps(document).encode()


# Rollback.
@case(False)
def an_older_timestamp(r):
    old = r.files["metadata/timestamp.json"]
    r.update()
    yield
    r.files["metadata/timestamp.json"] = old


@case(False)
def a_timestamp_with_an_older_snapshot(r):
    r.update()
    yield
    r.bump("timestamp")
    r.timestamp.snapshot_meta.version = 1
    r.publish(["timestamp"])


@case(False)
def a_snapshot_with_older_targets(r):
    r.update()
    yield
    r.bump("snapshot", "timestamp")
    r.snapshot.meta["targets.json"].version = 1
    r.publish(["snapshot", "timestamp"])


@case(False)
def a_snapshot_without_a_role_that_it_had(r):
    r.delegate("targets", "channel", ["other/*"])
    r.bump("snapshot", "timestamp")
    r.publish()
    yield
    del r.snapshot.meta["channel.json"]
    r.bump("snapshot", "timestamp")
    r.publish(["snapshot", "timestamp"])


@case(True)
def a_timestamp_of_the_same_version_with_other_content(r):
    # It is not taken; what is trusted stays.
    r.timestamp.snapshot_meta.version = 100
    r.publish(["timestamp"])


@case(False)
def an_older_root(r):
    r.next_root()
    yield
    r.files["metadata/3.root.json"] = r.files["metadata/1.root.json"]
    r.timestamp.version += 1


# Freeze.
@case(False)
def a_timestamp_that_is_over(r):
    r.timestamp.expires = PAST
    r.update()


@case(False)
def a_snapshot_that_is_over(r):
    r.snapshot.expires = PAST
    r.update()


@case(False)
def targets_that_are_over(r):
    r.targets["targets"].expires = PAST
    r.update()


@case(False)
def a_root_that_is_over(r):
    r.root.expires = PAST
    r.next_root()
    r.update()


@case(True)
def a_root_that_is_over_and_its_successor(r):
    r.root.expires = PAST
    r.next_root()
    r.root.expires = LATER
    r.next_root()
    r.update()


@case(False)
def a_delegated_role_that_is_over(r):
    del r.targets["targets"].targets[PATH]
    r.delegate("targets", "channel", ["lab/*/*"], data=b"old")
    r.targets["channel"].expires = PAST
    r.bump("snapshot", "timestamp")
    r.publish()


# Mix and match.
@case(False)
def targets_of_another_snapshot(r):
    r.update()
    r.targets["targets"].version += 1
    data = r.sign(r.targets["targets"], r.signers["targets"].values())
    r.files[f"metadata/{r.snapshot.meta['targets.json'].version}.targets.json"] = data


@case(False)
def a_snapshot_of_another_timestamp(r):
    r.update()
    r.snapshot.version += 1
    data = r.sign(r.snapshot, r.signers["snapshot"].values())
    r.files[f"metadata/{r.timestamp.snapshot_meta.version}.snapshot.json"] = data


@case(False)
def a_role_in_anothers_place(r):
    r.update()
    r.files["metadata/timestamp.json"] = r.files["metadata/snapshot.json"]


@case(False)
def another_hash_of_the_snapshot(r):
    r.update()
    r.timestamp.version += 1
    data = r.files["metadata/snapshot.json"]
    r.timestamp.snapshot_meta = MetaFile.from_data(r.snapshot.version, data + b" ", ["sha256"])
    r.publish(["timestamp"])


@case(True)
def the_right_hash_of_the_snapshot(r):
    r.update()
    r.timestamp.version += 1
    data = r.files["metadata/snapshot.json"]
    r.timestamp.snapshot_meta = MetaFile.from_data(r.snapshot.version, data, ["sha256", "sha512"])
    r.publish(["timestamp"])


# Thresholds and keys.
@case(False)
def one_signature_of_two(r):
    r.root.roles["timestamp"].threshold = 2
    r.add_key("timestamp")
    r.next_root()
    (_, second) = r.signers["timestamp"].values()
    r.signers["timestamp"] = {second.public_key.keyid: second}
    r.update()


@case(True)
def two_signatures_of_three(r):
    r.root.roles["timestamp"].threshold = 2
    r.add_key("timestamp")
    r.add_key("timestamp")
    r.next_root()
    r.signers["timestamp"].popitem()
    r.update()


@case(False)
def one_key_under_two_names(r):
    (signer,) = r.signers["timestamp"].values()
    key = signer.public_key
    twin = type(key)("0" * 64, key.keytype, key.scheme, key.keyval)
    r.root.roles["timestamp"].threshold = 2
    r.root.add_key(twin, "timestamp")
    r.next_root()
    r.update()
    document = json.loads(r.files["metadata/timestamp.json"])
    document["signatures"].append({"keyid": "0" * 64, "sig": document["signatures"][0]["sig"]})
    r.files["metadata/timestamp.json"] = json.dumps(document).encode()


@case(False)
def a_key_that_was_revoked(r):
    old = dict(r.signers["timestamp"])
    r.replace_keys("timestamp")
    r.next_root()
    r.signers["timestamp"] = old
    r.update()


@case(False)
def a_root_by_its_own_keys_alone(r):
    r.replace_keys("root")
    r.next_root()
    r.update()


@case(False)
def a_root_by_the_old_keys_alone(r):
    old = list(r.signers["root"].values())
    r.replace_keys("root")
    r.root.version += 1
    r.publish_root(old)
    r.update()


@case(False)
def a_root_that_skips_a_version(r):
    r.root.version = 3
    data = r.publish_root()
    r.files["metadata/2.root.json"] = data
    r.update()


@case(False, first=False)
def a_first_root_that_nobody_signed(r):
    document = json.loads(r.files["metadata/1.root.json"])
    document["signatures"] = []
    r.files["metadata/1.root.json"] = json.dumps(document).encode()


# What costs.
@case(False)
def an_endless_timestamp(r):
    r.endless = "timestamp.json"


@case(False)
def an_endless_root(r):
    r.endless = "2.root.json"


@case(False)
def an_endless_target(r):
    r.update()
    r.endless = "root image"


@case(False)
def a_timestamp_that_never_comes(r):
    r.stall = "timestamp.json"


@case(False)
def a_chain_of_forty_delegations(r):
    chain(r, 40)


@case(False)
def delegations_in_a_circle(r):
    del r.targets["targets"].targets[PATH]
    r.delegate("targets", "a", ["*/*/*"])
    r.delegate("a", "b", ["*/*/*"])
    signer = list(r.signers["a"].values())[0]
    r.targets["b"].delegations = Delegations({}, {"a": DelegatedRole("a", [], 1, False, ["*/*/*"])})
    r.targets["b"].add_key(signer.public_key, "a")
    r.bump("snapshot", "timestamp")
    r.publish()


@case(False)
def behind_a_terminating_delegation(r):
    del r.targets["targets"].targets[PATH]
    r.delegate("targets", "first", ["lab/*/*"], terminating=True)
    r.delegate("targets", "second", ["lab/*/*"], data=b"never asked")
    r.bump("snapshot", "timestamp")
    r.publish()


@case(False)
def beyond_a_delegations_paths(r):
    del r.targets["targets"].targets[PATH]
    r.delegate("targets", "channel", ["other/*/*", "lab/*", "*"], data=b"not its own")
    r.bump("snapshot", "timestamp")
    r.publish()


@case(False)
def a_delegation_by_a_strangers_key(r):
    del r.targets["targets"].targets[PATH]
    r.delegate("targets", "channel", ["lab/*/*"], data=b"forged")
    signer = r.make()
    r.signers["channel"] = {signer.public_key.keyid: signer}
    r.bump("snapshot", "timestamp")
    r.publish()


@case(False)
def half_a_file(r):
    r.update()
    r.files["metadata/timestamp.json"] = r.files["metadata/timestamp.json"][:-20]


@case(False)
def no_json(r):
    r.update()
    r.files[f"metadata/{r.snapshot.version}.snapshot.json"] = b"\xff\xfe not metadata"


@case(False)
def a_file_that_is_missing(r):
    r.update()
    del r.files[f"metadata/{r.snapshot.version}.snapshot.json"]


def chain(r, count):
    del r.targets["targets"].targets[PATH]
    parent = "targets"
    for number in range(count):
        role = f"role{number}"
        r.delegate(parent, role, ["*/*/*"], data=b"far away" if number == count - 1 else None)
        parent = role
    r.bump("snapshot", "timestamp")
    r.publish()


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    wanted = sys.argv[2:]
    for name, (function, taken, first, options) in cases.items():
        if wanted and name not in wanted:
            continue
        repository = Repository(**options)
        Handler.repository = repository
        steps = None
        if not first:
            function(repository)
        root = repository.files["metadata/1.root.json"]
        try:
            clients = {"ours": Client(sys.argv[1], url, root), "peer": Client(None, url, root)}
            if first:
                for who, client in clients.items():
                    if not client.fetch():
                        raise RuntimeError(f"the first visit of {who}: {client.said}")
                steps = function(repository)
                # Some have a second half, behind another visit.
                if steps is not None:
                    next(steps)
                    for client in clients.values():
                        client.fetch()
                    next(steps, None)
            results = {who: client.fetch() for who, client in clients.items()}
            print(json.dumps({
                "case": name, "must": taken, "ours": results["ours"], "peer": results["peer"],
                "said": clients["ours"].said, "peer-said": clients["peer"].said,
                "trusted": clients["ours"].trusted(), "peer-trusted": clients["peer"].trusted(),
                "got": clients["ours"].got(), "peer-got": clients["peer"].got(),
            }), flush=True)
        except Exception as error:
            traceback.print_exc()
            print(json.dumps({"case": name, "trouble": str(error)}), flush=True)


main()
