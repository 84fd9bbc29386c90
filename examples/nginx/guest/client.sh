# The client: rounds of load, a download after each; between them one backend goes and comes back.
. /guest/common.sh
ROUND_S=3
CONNECTIONS=4
ROUNDS_MAX=10 # until a backend that is killed has gone, and until one that is back has work
downloads=0

# round WHAT: loads the front for a while; every answer must be right
round() {
  wrk -t 1 -c $CONNECTIONS -d ${ROUND_S}s --timeout 20s -s /guest/check.lua "http://$FRONT:80/page" >/run/wrk 2>&1 ||
    fail "wrk: $(cat /run/wrk)"
  line=$(grep "^ROUND" /run/wrk) || fail "wrk: $(cat /run/wrk)"
  echo "$1: ${line#ROUND }"
  for pair in ${line#ROUND }; do eval "$pair"; done
  [ "$requests" -gt 0 ] || fail "no answers"
  [ "$wrong" = 0 ] || fail "$wrong wrong answers"
  [ "$broken" = 0 ] || fail "$broken requests broke off"
}

# rounds_until CONDITION WHAT: rounds until the last one was such
rounds_until() {
  rounds=0
  until round "$2" && $1; do
    rounds=$((rounds + 1))
    [ $rounds -lt $ROUNDS_MAX ] || fail "no end of: $2"
  done
}
web2_is_silent() {
  [ "$web2" = 0 ]
}
web2_answers() {
  [ "$web2" -gt 0 ]
}
both_answer() {
  [ "$web1" -gt 0 ] && [ "$web2" -gt 0 ]
}

# download: a large file, compared by its checksum
download() {
  wget -q -O /run/large "http://$FRONT/large" || fail "the large file did not come"
  md5sum </run/large | cmp -s - /run/large.md5 || fail "the large file arrived broken"
  downloads=$((downloads + 1))
}

# wrk reserves 160 MB for its statistics, and uses little of it.
echo 1 >/proc/sys/vm/overcommit_memory
make_pages /run/site
md5sum </run/site/large >/run/large.md5
until_ok "the front serves" wget -q -O /dev/null "http://$FRONT/page"
round "both backends"
both_answer || fail "one backend answers nothing"
download

# No download here: one that is under way at the dead backend breaks off.
order $WEB2 kill
rounds_until web2_is_silent "one is killed"
download

order $WEB2 start
rounds_until web2_answers "one comes back"
download
round "both again"
both_answer || fail "one backend answers nothing"
download

echo "client got the large file $downloads times, md5 $(cut -c 1-32 /run/large.md5)"
for host in $WEB1 $WEB2 $FRONT; do order $host bye; done
echo "OK nginx client"
