#!/bin/sh
# Builds the Go collector that Misaki is compared with (by `cargo bench` and by the interop tests) from its Go modules.
# Needs Go and a module proxy, nothing else. Does nothing when the right version is there already.
#
#   tests/interop/build-collector.sh            prints what it does; the binary is tests/interop/.work/bin/otelcol
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
manifest=$here/otelcol-builder.yaml
version=$(sed -n 's/^ *version: *//p' "$manifest" | head -n 1)
work=$here/.work
binary=$work/bin/otelcol
stamp=$work/bin/otelcol.manifest

say() { printf 'build-collector: %s\n' "$*"; }

if [ -x "$binary" ] && cmp -s "$manifest" "$stamp"; then
    say "$("$binary" --version) is there already: $binary"
    exit 0
fi

command -v go >/dev/null || {
    say "needs Go (https://go.dev/dl), found none on the PATH" >&2
    exit 1
}
say "$(go version)"
say "building the Go collector $version from $manifest (some minutes, the first time)"

mkdir -p "$work/bin"
# The builder resolves output_path against where it runs.
cd "$work"
go run "go.opentelemetry.io/collector/cmd/builder@v$version" --config "$manifest" --ldflags='-s -w'

# Moved into place last, stamped after that: a build cut short is built again.
rm -f "$stamp"
mv dist/otelcol "$binary"
cp "$manifest" "$stamp"
say "built $("$binary" --version): $binary"
