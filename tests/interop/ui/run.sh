#!/usr/bin/env bash
# Tests `misaki ui` in Chromium, with the telemetry of real SDKs (shop.py) and with hostile texts.
#
#   tests/interop/ui/run.sh [--misaki target/release/misaki] [screens|command|hostile|door|speed]...
#
# Needs what tests/interop/run needs for Go, Python, Node and Chromium; all is kept in tests/interop/.work. Screenshots of each
# screen go to target/ci/ui. One line a check; ends with 1 when one failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
top=$(cd ../../.. && pwd)
misaki=$top/target/release/misaki
if [ "${1:-}" = --misaki ]; then
    misaki=$(realpath "${2:?--misaki wants a path}")
    shift 2
fi
[ -x "$misaki" ] || { echo "no program at $misaki" >&2 && exit 1; }
work=$(cd .. && pwd)/.work
python3 -B - "$PWD/../driver" <<'PREPARE'
import sys
sys.path.insert(0, sys.argv[1])
from programs import prepare
problems = prepare(["go", "js", "python", "ui"])
for name, problem in problems.items():
    print(f"{name}: {problem}", file=sys.stderr)
sys.exit(1 if problems else 0)
PREPARE
CHROMIUM=$(command -v chromium) exec node suite.mjs "$misaki" "$PWD/shop.py" "$work/ui" "$top/target/ci/ui" "$@"
