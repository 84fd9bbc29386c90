# The client: pgbench against the primary until that dies, then the standby's promotion, pgbench
# against it, and the check that nothing that was acknowledged is lost.
. /guest/common.sh
CLIENTS=2
RATE=2         # transactions a second, of all clients; pgbench starts each when its time has come
BEFORE_KILL=20 # transactions
AFTER_EACH=8   # transactions of each client after the promotion
mkdir -p /run/bench
cd /run/bench

# bench HOST RUN OPTION…: its log has a line for each acknowledged transaction
bench() {
  host=$1
  run=$2
  shift 2
  pgbench -h "$host" -n -c $CLIENTS -j 1 -R $RATE -M prepared -f /guest/transfer.sql -D n=0 -D "run=$run" \
    -l --log-prefix="$run" "$@" >"$run.out" 2>&1
}

# acknowledged RUN: how many transactions pgbench had an answer to
acknowledged() {
  cat "$1".[0-9]* 2>/dev/null | wc -l
}
acknowledged_more_than() {
  [ "$(sql $PRIMARY "SELECT count(*) FROM ledger")" -gt "$1" ]
}

# lost RUN: the acknowledged transactions that are not in the ledger
lost() {
  sed "s/^\([0-9]*\) \([0-9]*\) .*/('$1', \1, \2)/" "$1".[0-9]* | paste -s -d , >"$1.values"
  sql $STANDBY "SELECT count(*) FROM (VALUES $(cat "$1.values")) AS told (run, client, n)
    WHERE NOT EXISTS (SELECT FROM ledger l WHERE (l.run, l.client, l.n) = (told.run, told.client, told.n))"
}

# balances: the sums that accounts, tellers, branches and history tell
balances() {
  sql $STANDBY "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history)"
}

streams() {
  [ "$(sql $PRIMARY "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")" = 1 ]
}
until_ok "the primary answers, and its standby streams" streams

bench $PRIMARY before -T 600 &
sleep $((BEFORE_KILL / RATE)) # sooner there is nothing to ask for
until_ok "transactions" acknowledged_more_than $BEFORE_KILL
order $PRIMARY kill
wait $! && fail "pgbench noticed nothing"
told=$(acknowledged before)
[ "$told" -gt 0 ] || fail "pgbench: $(tail -n 5 before.out)"
echo "client: $told transactions acknowledged, then: $(grep -m 1 -i "error\|aborted" before.out)"

[ "$(sql $STANDBY "SELECT pg_promote(true, 60)")" = t ] || fail "no promotion"
echo "client: promoted, timeline $(sql $STANDBY "SELECT timeline_id FROM pg_control_checkpoint()")"
bench $STANDBY after -t $AFTER_EACH || fail "pgbench: $(tail -n 5 after.out)"
grep "^tps\|^latency average\|processed" after.out
[ "$(acknowledged after)" = $((CLIENTS * AFTER_EACH)) ] || fail "pgbench counted $(acknowledged after)"

for run in before after; do
  lost=$(lost $run) || fail "no answer"
  [ "$lost" = 0 ] || fail "$lost transactions of $(acknowledged $run) lost, $run the promotion"
done
echo "client: none of $((told + CLIENTS * AFTER_EACH)) acknowledged transactions is lost; the ledger has $(sql $STANDBY "SELECT count(*) FROM ledger")"
sums=$(balances)
[ "$(echo "$sums" | tr '|' '\n' | sort -u | wc -l)" = 1 ] || fail "the books differ: $sums"
echo "client: the books agree: $sums"
sql $STANDBY "SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
  WHERE a.amname = 'btree' AND c.relname ~ '^(ledger|pgbench)'" >/dev/null || fail "an index is broken"

order $PRIMARY bye
order $STANDBY bye
echo "OK postgres client"
