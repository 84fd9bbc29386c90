# The hub: name server, file server, and the one who knows when all is done.
. /guest/common.sh
reports=/run/reports

mkdir -p /run/dns
cd /run/dns
cat >data <<'RECORDS'
.trio.test:10.77.0.1:ns.trio.test
=hub.trio.test:10.77.0.1
=left.trio.test:10.77.0.2
=right.trio.test:10.77.0.3
RECORDS
tinydns-data
ROOT=/run/dns IP=$HUB UID=0 GID=0 tinydns >/dev/null 2>&1 &

serve_blob 2048
listen
nc.openbsd -d -l -k $REPORTS >$reports 2>/dev/null &

until_ok "left is ready" grep -q "left ready" $reports
until_ok "right is ready" grep -q "right ready" $reports
say 5 "hub go"
fetch left.trio.test
until_ok "left is done" grep -q "left done" $reports
until_ok "right is done" grep -q "right done" $reports
grep -q "left hello" $heard || fail "heard nothing from left"
grep -q "right hello" $heard || fail "heard nothing from right"
say 5 "hub bye"
echo "hub heard $(wc -l <$heard) broadcasts"
echo "OK trio hub"
