#!/bin/sh
# Sets everything up and runs all checks and tests. The last line is `N passed, N failed`.
#   sh tests/run.sh             everything; each example of the laboratory counts as a test
#   sh tests/run.sh lib net     only the tests below these paths
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
EXTRA_PACKAGES="openssl systemd"
. "$ROOT/tests/setup.sh"

say "formatting, lint, types"
"$DENO" fmt --check --quiet
"$DENO" lint --quiet
"$DENO" check --quiet .

say "the file that tests run"
"$DENO" run -A build/build.ts

say "guest images of the examples"
"$DENO" run -A examples/images/build.ts examples/trio

say "tests"
report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
"$DENO" test -A --no-check "${@:-.}" >"$report" 2>&1 || status=$?
cat "$report"
plain=$(sed 's/\x1b\[[0-9;]*m//g' "$report" | grep -E '^(ok|FAILED) \| ' | tail -n 1)
passed=$(printf '%s' "$plain" | sed -n 's/.*| \([0-9]*\) passed.*/\1/p')
failed=$(printf '%s' "$plain" | sed -n 's/.*| \([0-9]*\) failed.*/\1/p')
ignored=$(printf '%s' "$plain" | sed -n 's/.*| \([0-9]*\) ignored.*/\1/p')
if [ "${CI:-}" = true ] && [ "${ignored:-0}" -gt 0 ]; then
  say "$ignored tests were skipped: in CI that is a failure"
  failed=$((${failed:-0} + ignored))
  status=1
fi
[ -n "$passed" ] && [ "$passed" -gt 0 ] || status=1
[ "$status" -eq 0 ] || [ "${failed:-0}" -gt 0 ] || failed=1

if [ $# -eq 0 ]; then
  say "the laboratory, short form: every example recorded and replayed"
  "$DENO" run -A tests/lab/lab.ts --short >"$report" || status=1
  cat "$report"
  lab=$(grep -E '^lab: [0-9]+ passed, [0-9]+ failed$' "$report" || echo "lab: 0 passed, 1 failed")
  lab=${lab#lab: }
  [ "${lab%% passed*}" -gt 0 ] || status=1
  passed=$((${passed:-0} + ${lab%% passed*}))
  lab=${lab#*, }
  failed=$((${failed:-0} + ${lab%% failed*}))
fi
printf '%s passed, %s failed\n' "${passed:-0}" "${failed:-0}"
exit "$status"
