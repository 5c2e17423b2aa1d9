#!/usr/bin/env bash
# Measures the cost of a packet at 10, 1,000 and 10,000 rules. The connections get no answer, so
# every packet is matched against the rules. Compares the engine's ruleset with the same rules one
# after the other in nft, and in iptables-nft. One processor, the same packets, the same run. Needs
# root.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/figures.sh
work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

rules() {  # COUNT ours|nft|iptables: each rule has another source, destination and port
    awk -v n="$1" -v kind="$2" 'BEGIN { for (i = 0; i < n; i++) {
        a = "10.0." int(i / 256) "." i % 256; b = "198.18." int(i / 256) "." i % 256; p = 1000 + i
        if (kind == "ours") printf "    - {name: r%d, from: lan, to: wan, protocol: udp, ports: [%d], source: [%s], destination: [%s], action: accept}\n", i, p, a, b
        if (kind == "nft") printf "    iifname lan oifname wan ip saddr %s ip daddr %s udp dport %d counter accept\n", a, b, p
        if (kind == "iptables") printf "-A FORWARD -i lan -o wan -s %s -d %s -p udp --dport %d -j ACCEPT\n", a, b, p } }'
}
for n in 10 1000 10000; do
    {
        cat <<'YAML'
network:
  zones: [wan, lan]
  interfaces:
    - {name: wan, zone: wan, port: order 1, ipv4: {addresses: [203.0.113.2/24]}}
    - {name: lan, zone: lan, port: order 2, ipv4: {addresses: [192.168.1.1/24]}}
  routes:
    - {to: 10.0.0.0/8, via: 192.168.1.2}
    - {to: 198.18.0.0/15, via: 203.0.113.1}
firewall:
  anti-spoofing: false
  rules:
YAML
        rules $n ours
    } >"$work/ours-$n.yaml"
    {
        echo 'table inet peer { chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept'
        rules $n nft
        printf '  }\n}\n'
    } >"$work/nft-$n"
    {
        printf '*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n'
        rules $n iptables
        echo COMMIT
    } >"$work/iptables-$n"
done

cat >"$work/box" <<'SH'
set -eu
work=$1
. Benchmarks/box.sh
measure() {  # NAME RULES PACKETS
    for _ in 1 2 3 4 5; do taskset -c 0 perl Benchmarks/send.pl p1 "$(cat "$work/address")" "$3" "$2"; done | sort -n | head -1 >"$work/$1-$2"
}
for n in 10 1000 10000; do
    timeout 60 "$work/vcpectl" apply "$work/ours-$n.yaml" >"$work/said" || { cat "$work/said" >&2; exit 1; }
    if [ $n = 10 ]; then
        ip -o link show lan | sed 's/.*ether \([^ ]*\).*/\1/' >"$work/address"
        ip link set p0 up; ip link set p1 up
        ip neigh replace 203.0.113.1 lladdr 02:00:00:00:00:01 dev wan nud permanent
    fi
    measure ours $n 200000
    # Check that the packets match the rules.
    "$work/vcpectl" firewall hits r0 >"$work/said"
    awk '$1 == "r0" { hits = $(NF - 1) } END { exit hits < 100 }' "$work/said" || { echo "the packets met no rule" >&2; cat "$work/said" >&2; exit 1; }
done
kill "$engine"
wait "$engine" || true
nft delete table inet vcpe
for n in 10 1000 10000; do
    nft -f "$work/nft-$n"
    measure nft $n $((n > 1000 ? 4000 : 50000))
    nft delete table inet peer
    iptables-nft-restore "$work/iptables-$n"
    measure iptables $n $((n > 1000 ? 4000 : 50000))
    iptables-nft -F; iptables-nft -P FORWARD ACCEPT
done
SH
timeout 300 unshare --net --mount bash "$work/box" "$work" </dev/null
at() { cat "$work/$1-$2"; }
declare -A aims=([10]=1.1 [1000]=1.2 [10000]=0.05)
for n in 10 1000 10000; do
    figure "a packet at $n rules / linear nft" "$(at ours $n)" "$(at nft $n)" "${aims[$n]}" ns
    figure "a packet at $n rules / iptables-nft" "$(at ours $n)" "$(at iptables $n)" "${aims[$n]}" ns
done
figure "a packet at 10000 rules / at 10" "$(at ours 10000)" "$(at ours 10)" 1.05 ns
