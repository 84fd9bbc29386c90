# The primary: commits nothing before the standby has it on its disk. Killed under load.
. /guest/common.sh

acknowledged_by_standby() {
  [ "$(sql /run "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")" = 1 ]
}

mount_data
configure <<'SETTINGS'
synchronous_standby_names = 'standby'
synchronous_commit = on
SETTINGS
start_server
echo "primary: system $(as_postgres pg_controldata /data/db | sed -n 's/^Database system identifier: *//p')"
until_ok "the standby streams" acknowledged_by_standby
echo "primary: the standby streams, synchronously"
take_orders
until_ok "the order to die" grep -q kill $orders
kill -9 $(pidof postgres)
echo "primary: all processes of the server killed"
until_ok "the client says bye" grep -q bye $orders
echo "OK postgres primary"
