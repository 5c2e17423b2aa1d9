#!/usr/bin/env bash
# Measures the bytes that boxes fetch for a security fix. Two builds of one image differ only in the
# version of OpenSSL, or of the kernel. Compares patches, blocks, casync, zchunk and RAUC from
# Debian with the whole compressed image. Same machine, same run. Needs root, for RAUC.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${1:-branch-office}
. Benchmarks/figures.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The host's mirror of Debian's archive.
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
    sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' | grep -m1 '/debian/\?$')
mirror=${mirror%/}

# Arguments: folder of definitions, pattern of the package's line in the lock, archive, path within
# the archive. Writes that version into the lock.
with() {
    local address=$mirror/$4 name version deb
    [ "$3" = security ] && address=$mirror-security/$4
    deb=$work/$(basename "$4")
    curl -fsS --retry 3 -o "$deb" "$address"
    name=$(dpkg-deb -f "$deb" Package)
    version=$(dpkg-deb -f "$deb" Version)
    local line="  - {name: $name, version: \"$version\", architecture: amd64, size: $(stat -c %s "$deb"), sha256: $(sha256sum "$deb" | cut -d' ' -f1), archive: $3, path: \"$4\"}"
    grep -q "name: $2," "$1/$image.lock" || { echo "error: no package $2 in the lock" >&2; exit 1; }
    sed -i "s|^  - {name: $2, .*|$line|" "$1/$image.lock"
}
build() {  # OUTPUT-NAME DEFINITIONS
    .build/release/vcpe build "$image" --profile virtio --images "$2" --output "$work/$1" --relock-gone >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; exit 1; }
}
for name in old new kernel; do cp -r images "$work/images-$name"; done
openssl() { with "$work/images-$1" libssl3t64 "$2" "$3/main/o/openssl/libssl3t64_3.5.4-1~deb13u$4_amd64.deb"; }
openssl old main pool 1
openssl new security pool/updates 2
with "$work/images-kernel" 'linux-image-6[^ ]*' security \
    'pool/updates/main/l/linux-signed-amd64/linux-image-6.12.117+deb13-cloud-amd64_6.12.117-1_amd64.deb'
build old "$work/images-old"
build new "$work/images-new"
build kernel "$work/images-kernel"
build now images

# The bytes that a chunking tool would fetch: chunks of the new files that the old ones lack.
casync_bytes() {
    local part
    for part in root efi; do
        rm -rf "$work/store"
        casync make --store="$work/store" "$work/a.caibx" "$work/$1/$image/$image.$part" >/dev/null
        find "$work/store" -type f -printf '%P\n' | sort >"$work/a"
        casync make --store="$work/store" "$work/b.caibx" "$work/$2/$image/$image.$part" >/dev/null
        find "$work/store" -type f -printf '%P %s\n' | sort | join -v1 - "$work/a" | awk '{ print $2 }'
        stat -c %s "$work/b.caibx"
    done | awk '{ sum += $1 } END { print sum }'
}
zchunk_bytes() {
    local part
    for part in root efi; do
        for name in "$1" "$2"; do zck -o "$work/$name.zck" "$work/$name/$image/$image.$part"; done
        zck_delta_size "$work/$1.zck" "$work/$2.zck"
    done | tee "$work/zchunk" | awk '/[Dd]ownload/ { for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+$/) { sum += $i; break } } END { print sum }'
}
compare() {  # OLD NEW LABEL
    local full costs casync zchunk rauc
    costs=$(.build/release/vcpe release cost "$image" --profile virtio --from "$work/$1" --output "$work/$2" --json)
    # The whole image as one stream, which is the minimum without deltas.
    full=$(for part in root efi; do zstd -q -19 -T0 -c "$work/$2/$image/$image.$part" | wc -c; done | awk '{ sum += $1 } END { print sum }')
    echo "$costs" | jq -r '.[] | "\(.method): \(.bytes) bytes, \(."uki-bytes") of the UKI, \(.requests) requests, \(.milliseconds) ms"'
    # Separate assignments, because set -e ignores failures in a command's arguments.
    casync=$(casync_bytes "$1" "$2")
    zchunk=$(zchunk_bytes "$1" "$2")
    rauc=$(Benchmarks/rauc.sh "$work/$1/$image/$image" "$work/$2/$image/$image")
    figure "$3 by patch / full image" "$(echo "$costs" | jq '.[0].bytes')" "$full" "$4" B
    figure "$3 by blocks / full image" "$(echo "$costs" | jq '.[1].bytes')" "$full" "$5" B
    figure "$3 in frames / full image" "$(echo "$costs" | jq '.[2].bytes')" "$full" 1.1 B
    figure "$3 by casync / full image" "$casync" "$full" 1 B
    figure "$3 by zchunk / full image" "$zchunk" "$full" 1 B
    figure "$3 by RAUC / full image" "$rauc" "$full" 1 B
}
compare old new "OpenSSL's fix" 0.04 0.08
compare kernel now "a kernel's update" 1 1
