# Benchmarks source this in their own network and mount namespaces. It starts an engine with two
# ports, wan and lan, in the folder $work, and sets $engine.
# seconds: prints the duration of a command, whose output goes to $work/said.
seconds() { start=$EPOCHREALTIME; "$@" >"$work/said" || { cat "$work/said" >&2; exit 1; }; awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.4f\n", b - a }'; }
# The engine orders ports by their MAC addresses.
ip link add eth0 address 02:00:00:00:00:01 type veth peer name p0 address 02:00:00:00:01:00
ip link add eth1 address 02:00:00:00:00:02 type veth peer name p1 address 02:00:00:00:01:01
mkdir -p "$work/run" "$work/data"
cp -r .build/box/plugins .build/box/vcpe-box "$work/"
for name in network firewall nat lan; do ln -s ../../vcpe-box "$work/plugins/$name/$name"; done
# This plugin plans without a document, and needs users that only an image has.
rm -r "$work/plugins/system"
ln -s vcpe-box "$work/vcpe-engine"
ln -s vcpe-box "$work/vcpectl"
echo 'network: {zones: [wan], interfaces: [{name: wan, zone: wan, port: order 1}]}' >"$work/site.yaml"
mount -t tmpfs tmpfs /run
mkdir /run/vcpe
mount --bind "$work/run" /run/vcpe
"$work/vcpe-engine" --run "$work/run" --data "$work/data" --plugins "$work/plugins" --factory-site "$work/site.yaml" \
    --modprobe /bin/true --devices "$work" >"$work/log" 2>&1 </dev/null &
engine=$!
for _ in $(seq 100); do [ -S "$work/run/engine.sock" ] && break; sleep 0.1; done
sleep 1
