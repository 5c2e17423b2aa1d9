#!/usr/bin/env python3
"""A driver for tests. It keeps each object as a file of objects/, and notes each request in journal.

It misbehaves where an object has the verb as a key ({"apply": "hang"}), or where the file fault has
the verb and how ("observe hang").
"""

import json
import os
import subprocess
import sys
import time

home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0]))))
objects = f"{home}/objects"


def note(text):
    with open(f"{home}/journal", "a") as journal:
        journal.write(text + "\n")


def answer(value):
    print(json.dumps(value), flush=True)


def fault(verb, resource):
    if verb in resource:
        return resource[verb]
    try:
        words = open(f"{home}/fault").read().split()
    except FileNotFoundError:
        return None
    return words[1] if words[:1] == [verb] else None


def misbehave(how, resource):
    if how == "error":
        answer({"error": "no room for it", "id": resource.get("id", "")})
    elif how == "hang":
        child = subprocess.Popen(["sleep", "1000"])
        with open(f"{home}/pids", "w") as pids:
            pids.write(f"{os.getpid()} {child.pid}")
        time.sleep(1000)
    elif how == "exit":
        print("out of paper", file=sys.stderr)
        sys.exit(3)
    elif how == "garbage":
        print("no JSON", flush=True)
    elif how == "list":
        answer([])
    elif how == "flood":
        sys.stdout.write("x" * (17 << 20))
        sys.stdout.flush()
    elif how == "chatter":
        print("{}\n{}", flush=True)


def path(resource):
    return f"{objects}/{resource['id']}"


def serve(request):
    verb = request["do"]
    resource = request.get("resource") or request.get("present") or {}
    text = " ".join([verb] + ([resource["id"]] if resource else []))
    if verb == "apply" and "present" in request:
        text += " over " + request["present"].get("text", "")
    if verb == "remove" and os.path.exists(f"{home}/run/units/keeper-daemon"):
        text += " beside its daemon"
    note(text)
    for resource in request.get("resources", [resource]):
        how = fault(verb, resource)
        if how:
            return misbehave(how, resource)
    if verb == "observe":
        return answer({"resources": [json.load(open(f"{objects}/{name}")) for name in os.listdir(objects)]})
    if verb == "apply":
        with open(path(resource), "w") as file:
            json.dump(resource, file)
    if verb == "remove":
        os.unlink(path(resource))
    answer({})


assert sys.argv[1:] == ["drive", "object"], sys.argv
assert not {"HOME", "USER", "LANG", "NOTIFY_SOCKET"} & set(os.environ) and os.getcwd() == "/"
for line in sys.stdin:
    request = json.loads(line)
    assert request["contract"] == 1
    serve(request)
note("end")
