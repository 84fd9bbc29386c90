#!/bin/sh
# Sets everything up and runs all checks and tests. The last line is `N passed, N failed`.
#   sh tests/run.sh             everything; each example of the laboratory counts as a test
#   sh tests/run.sh lib net     only the tests below these paths
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
# Two tests skip themselves without these; in CI none may.
EXTRA_PACKAGES=
[ "${CI:-}" != true ] || EXTRA_PACKAGES="openssl systemd"
. "$ROOT/tests/setup.sh"

# Tests that need no VM and change nothing on the host: they run beside the others, with less of the CPUs.
# Not net/ and host/: their namespaces and dead runs would be what other tests find left over.
BESIDE="lib examples/images tests/lab tests/bench tests/simulation_test.ts tests/links_simulation_test.ts \
operations/diff_test.ts operations/pack_test.ts"
[ $# -eq 0 ] || BESIDE=

say "formatting, lint, types"
"$DENO" fmt --check --quiet
"$DENO" lint --quiet
"$DENO" check --quiet .

say "the file that tests run"
"$DENO" run -A build/build.ts

say "guest images of the examples"
"$DENO" run -A examples/images/build.ts examples/trio

reports=$(mktemp -d)
beside=
trap 'kill $beside 2>/dev/null || true; rm -rf "$reports"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
passed=0 failed=0 status=0

# add STATUS REPORT: shows a report of `deno test`, and counts.
add() {
  cat "$2"
  plain=$(sed 's/\x1b\[[0-9;]*m//g' "$2" | grep -E '^(ok|FAILED) \| ' | tail -n 1)
  number() { printf '%s' "$plain" | sed -n "s/.*| \([0-9]*\) $1.*/\1/p"; }
  good=$(number passed) bad=$(number failed) ignored=$(number ignored)
  if [ "${CI:-}" = true ] && [ "${ignored:-0}" -gt 0 ]; then
    say "$ignored tests were skipped: in CI that is a failure"
    bad=$((${bad:-0} + ignored))
  fi
  [ "$1" -eq 0 ] && [ "${good:-0}" -gt 0 ] || [ "${bad:-0}" -gt 0 ] || bad=1
  [ "${bad:-0}" -eq 0 ] || status=1
  passed=$((passed + ${good:-0})) failed=$((failed + ${bad:-0}))
}

say "tests"
if [ -n "$BESIDE" ]; then
  nice -n 10 "$DENO" test -A --no-check $BESIDE >"$reports/beside" 2>&1 &
  beside=$!
  # The option stands in the place of what deno.json excludes.
  set -- "--ignore=$(printf %s "$BESIDE" | tr -s ' ' ,),node_modules,.tools,dist,examples/.cache" .
fi
ended=0
"$DENO" test -A --no-check "$@" >"$reports/tests" 2>&1 || ended=$?
add "$ended" "$reports/tests"

if [ -n "$BESIDE" ]; then
  ended=0
  wait "$beside" || ended=$?
  beside=
  add "$ended" "$reports/beside"

  say "the laboratory, short form: every example recorded and replayed"
  "$DENO" run -A tests/lab/lab.ts --short >"$reports/lab" || status=1
  cat "$reports/lab"
  lab=$(grep -E '^lab: [0-9]+ passed, [0-9]+ failed$' "$reports/lab" || echo "lab: 0 passed, 1 failed")
  lab=${lab#lab: }
  [ "${lab%% passed*}" -gt 0 ] || status=1
  passed=$((passed + ${lab%% passed*}))
  lab=${lab#*, }
  failed=$((failed + ${lab%% failed*}))
fi
printf '%s passed, %s failed\n' "$passed" "$failed"
exit "$status"
