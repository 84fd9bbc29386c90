# What left and right do alike; `peer` is the other one.
. /guest/common.sh

serve_blob 1536
listen
until_ok "the hub answers pings" ping -c 1 -W 1 $HUB
until_ok "the hub knows names" nslookup $peer.trio.test $HUB
nslookup $peer.trio.test $HUB | grep -A 1 Name: || fail "no address for $peer"
report ready
until_ok "the hub says go" grep -q "hub go" $heard
say 10 "$role hello"
ping -c 4 $peer.trio.test
fetch hub.trio.test
fetch $peer.trio.test
until_ok "$peer says hello" grep -q "$peer hello" $heard
