# Of one input to the lines of one answer. Keys are written in their order, and lines sorted, so that equal plans are equal bytes.

def line: walk(if type == "object" then to_entries | sort_by(.key) | from_entries else . end) | tojson;
def problem(path; message; hint): {diagnostic: "error", path: path, message: message, hint: hint};

def port: type == "number" and . == floor and . >= 1 and . <= 65535;
def seconds: type == "number" and . == floor and . >= 1 and . <= 86400;

# What is wrong with a door, found without knowing the rest.
def problems_of_door(path):
  (keys - ["name", "from", "sequence", "opens", "for"] | .[]
    | problem("\(path).\(.)"; "unknown key"; "allowed are for, from, name, opens, sequence")),
  (if .name | type == "string" and test("^[a-z][a-z0-9-]{0,15}$") then empty
    else problem("\(path).name"; "found \(.name | tojson)"; "allowed is a name of lower-case letters, digits and hyphens, at most 16") end),
  (if .from | type == "string" then empty else problem("\(path).from"; "the zone is missing"; "it takes a zone's name") end),
  (if .sequence | type == "array" and length >= 2 and length <= 8 and all(port) then empty
    else problem("\(path).sequence"; "found \(.sequence | tojson)"; "allowed are 2 to 8 UDP ports") end),
  (if .opens | port then empty else problem("\(path).opens"; "found \(.opens | tojson)"; "allowed is a TCP port") end),
  (if has("for") and (.for | seconds | not)
    then problem("\(path).for"; "found \(.for | tojson)"; "allowed are seconds from 1 to 86400") else empty end);

def problems:
  if type != "object" then problem(""; "found \(tojson)"; "allowed is a mapping with doors")
  else
    (keys - ["doors"] | .[] | problem(.; "unknown key"; "allowed is doors")),
    (if .doors | type == "array" and length >= 1 and all(type == "object")
      then .doors | to_entries[] | .key as $index | .value | problems_of_door("doors[\($index)]")
      else problem("doors"; "found \(.doors | tojson)"; "allowed is a list of doors, each a mapping") end)
  end;

# A door's sets: who has knocked so far, and who may come in.
def step($door; $number): "port-knock.\($door.name)-\($number)";
def open($door): "port-knock.\($door.name)-open";

def payload($protocol; $field): {payload: {protocol: $protocol, field: $field}};
def is($left; $right): {match: {op: "==", left: $left, right: $right}};
def note($set; $timeout): {set: {op: "update", set: "@\($set)", elem: {elem: {val: payload("ip"; "saddr"), timeout: $timeout}}}};
def from($zone): is({meta: {key: "iifname"}}; "@\($zone)");
def known($set): is(payload("ip"; "saddr"); "@\($set)");

def set_of($name; $timeout; $path):
  {kind: "nftables", id: "set \($name)", at: $path,
    set: {name: $name, type: "ipv4_addr", flags: ["timeout", "dynamic"], timeout: $timeout, size: 4096}};

# Seconds from one knock to the next.
def patience: 10;

def plan_of($door; $path; $zone):
  ($door.sequence | length) as $last | ($door.for // 3600) as $for |
  (range(1; $last) | set_of(step($door; .); patience; $path)),
  set_of(open($door); $for; $path),
  {kind: "nftables", id: "counter port-knock.\($door.name)", at: $path, counter: {name: "port-knock.\($door.name)"}};

# The last knock first: one packet is one knock.
def rules_of($door; $path; $zone):
  ($door.sequence | length) as $last | ($door.for // 3600) as $for | "port-knock: \($path) \($door.name)" as $comment |
  (range($last; 0; -1) | . as $number |
    {comment: $comment, expr: (
      [from($zone), is(payload("udp"; "dport"); $door.sequence[$number - 1])]
      + (if $number > 1 then [known(step($door; $number - 1))] else [] end)
      + [if $number == $last then note(open($door); $for) else note(step($door; $number); patience) end]
      + [{drop: null}])}),
  {comment: $comment, expr: [from($zone), known(open($door)), is(payload("tcp"; "dport"); $door.opens),
    {counter: "port-knock.\($door.name)"}, {accept: null}]};

def plan:
  . as $input |
  [.configuration.doors | to_entries[] | "doors[\(.key)]" as $path | .value as $door
    | $input.published.zones[$door.from].set as $zone
    | if $zone == null then {problem: problem("\($path).from"; "there is no zone \($door.from | tojson)";
        "zones are \($input.published.zones // {} | keys | join(", "))")}
      else {plan: [plan_of($door; $path; $zone)], rules: [rules_of($door; $path; $zone)]} end] |
  if any(has("problem")) then map(.problem // empty)[]
  else (map(.plan) | add[]),
    {kind: "nftables", id: "chain port-knock.input", stage: "openings", order: 50,
      chain: {name: "port-knock.input", rules: (map(.rules) | add)}}
  end;

def show:
  {columns: ["door", "address", "seconds left"],
    rows: [.sets // {} | to_entries[] | select(.key | endswith("-open"))
      | (.key | ltrimstr("port-knock.") | rtrimstr("-open")) as $door | .value[] | [$door, .key, .expires]]};

[.configuration | problems] as $wrong |
if $verb == "migrate" then .configuration | line
elif $wrong != [] then $wrong | map(line) | sort[]
elif $verb == "plan" then [plan | line] | sort[]
elif $verb == "show" then show | line
else empty end
