# The benchmarks source this. It prints each figure at once, and keeps all in out/bench.json.

# figure NAME OURS PEER AIM UNIT: a smaller ratio is better.
figure() {
    local ratio met
    [ -n "$2" ] && [ -n "$3" ] || { echo "error: no figure for $1" >&2; exit 1; }
    ratio=$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.3f", a / b }')
    met=$(awk -v r="$ratio" -v a="$4" 'BEGIN { print (r <= a) ? "true" : "false" }')
    printf '%-56s %9s %-5s peer %9s   ratio %s   aim %s   met %s\n' "$1" "$2" "$5" "$3" "$ratio" "$4" "$met"
    mkdir -p out/.bench
    printf '{"name": "%s", "ours": %s, "peer": %s, "unit": "%s", "ratio": %s, "aim": %s, "met": %s}\n' \
        "$1" "$2" "$3" "$5" "$ratio" "$4" "$met" >>out/.bench/figures
    { echo '['; sed '$!s/$/,/; s/^/  /' out/.bench/figures; echo ']'; } >out/bench.json
}
