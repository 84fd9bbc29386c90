#!/bin/sh
# Clients on the host, over the uplink: start it beside the recording. Three loops ask the front for the
# page until it is gone again. Ends by itself, or on SIGTERM. Status 0 if something was answered, and all of it right.
#   sh examples/nginx/host.sh
set -u
URL=http://10.78.0.1/page
LOOPS=3
FIRST_ANSWER_S=300
REQUESTS_MAX=100 # of each loop
PAUSE_S=1
EXPECTED=$(seq 1 700 | md5sum)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 143' TERM INT

get() {
  busybox timeout 20 busybox wget -q -O "$1" $URL 2>/dev/null
}

# ask NUMBER: one loop; its answers and wrong answers end up in files
ask() {
  answered=0
  wrong=0
  while [ $answered -lt $REQUESTS_MAX ] && get "$folder/page$1"; do
    answered=$((answered + 1))
    [ "$(md5sum <"$folder/page$1")" = "$EXPECTED" ] || wrong=$((wrong + 1))
    sleep $PAUSE_S
  done
  echo "$answered $wrong" >"$folder/loop$1"
}

deadline=$(($(date +%s) + FIRST_ANSWER_S))
until get "$folder/first"; do
  if [ "$(date +%s)" -ge $deadline ]; then
    echo "FAIL nginx host: nothing answers at $URL"
    exit 1
  fi
  sleep 0.5
done
for loop in $(seq $LOOPS); do ask "$loop" & done
wait
set -- $(busybox awk '{ answered += $1; wrong += $2 } END { print answered, wrong }' "$folder"/loop*)
echo "host got $1 answers, $2 of them wrong"
[ "$1" -gt 0 ] && [ "$2" = 0 ]
