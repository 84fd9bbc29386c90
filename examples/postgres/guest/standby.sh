# The standby: a copy of the primary's disk, which follows its log; promoted in the middle.
. /guest/common.sh

mount_data
as_postgres touch /data/db/standby.signal
configure <<SETTINGS
primary_conninfo = 'host=$PRIMARY user=bench application_name=standby connect_timeout=10'
synchronous_standby_names = ''
SETTINGS
start_server
echo "standby: follows $PRIMARY"
take_orders
until_ok "the client says bye" grep -q bye $orders

as_postgres pg_ctl -D /data/db -w -m fast stop >/dev/null || fail "the server does not stop"
as_postgres pg_checksums --check -D /data/db >/run/checksums 2>&1 || fail "$(cat /run/checksums)"
grep "^Blocks scanned\|^Bad checksums" /run/checksums
as_postgres pg_controldata /data/db | grep "cluster state\|TimeLineID:"
umount /data || fail "the disk is in use"
echo "OK postgres standby"
