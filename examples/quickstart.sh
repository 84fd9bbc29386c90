#!/bin/sh
# Sets everything up and does the main job once: records the example cluster (three VMs), replays it,
# and verifies the replay. Run again, it only repeats the job.
#   sh examples/quickstart.sh [DIRECTORY FOR THE RECORDING]
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
EXTRA_PACKAGES=
case ${1-} in '' | /*) ;; *) set -- "$PWD/$1" ;; esac # setup.sh changes the folder
. "$ROOT/tests/setup.sh"
OUT=${1:-$(mktemp -d)/trio.clusterrr}
clusterrr() { "$DENO" run -A "$ROOT/main.ts" "$@"; }

say "building the guests of examples/trio (Debian's kernel, busybox, tinydns)"
"$DENO" run -A examples/images/build.ts examples/trio
say "clusterrr doctor"
clusterrr doctor
say "clusterrr record examples/trio/cluster.yaml --out $OUT --digest-every 2s"
clusterrr record examples/trio/cluster.yaml --out "$OUT" --digest-every 2s
say "clusterrr verify $OUT"
clusterrr verify "$OUT"
say "the recording is $OUT; look at it with: $DENO run -A $ROOT/main.ts show $OUT"
