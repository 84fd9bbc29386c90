# The client: loads the primary until it is gone, finds the new one, loads that, and at the end
# compares what the servers that are left have.
BURST=100 # writes, of which one burst comes each second
BURSTS_MAX=120 # more than the first primary will live to answer
AFTER=5 # bursts after the failover
KEYS=10000
BYTES=64
CONFIRM_S=10
BENCHMARK_S=20
. /guest/common.sh

# ready: a primary with two replicas that are in step, three sentinels that know each other
ready() {
  has_replicas || return 1
  for s in $SERVERS; do
    sentinel $s sentinel master shop | tr '\n' ' ' |
      grep -q "num-slaves 2 num-other-sentinels 2" || return 1
  done
}
# failed_over: all sentinels name the same primary, another than the first, and it serves as one
failed_over() {
  primary=$(primary_by $FIRST)
  [ -n "$primary" ] && [ "$primary" != $FIRST ] || return 1
  for s in $SERVERS; do [ "$(primary_by $s)" = $primary ] || return 1; done
  [ "$(of $primary replication role)" = master ]
}
# write_to_both: a last write, which the replica has confirmed, and with it all before
write_to_both() {
  printf 'set after-failover "written by %s"\nwait 1 %d\n' $name $((CONFIRM_S * 1000)) |
    timeout $((2 * CONFIRM_S)) redis-cli -h $primary 2>/dev/null | grep -qx 1
}
# what_has HOST: digest, number of keys and the last write, a line each; one redis-cli, as it takes long to start
what_has() {
  printf 'debug digest\ndbsize\nget after-failover\n' | cli $1
}
# load HOST BURSTS: a burst of writes to random keys each second, five clients at a time
load() {
  bursts=0
  while [ $bursts -lt $2 ]; do
    # Refused, redis-benchmark would try again without a pause until its time is over.
    cli $1 ping >/dev/null || { echo "no answer to a ping"; return 1; }
    timeout $BENCHMARK_S redis-benchmark -h $1 -t set -n $BURST -r $KEYS -d $BYTES -c 5 --csv 2>&1 || return 1
    bursts=$((bursts + 1))
    sleep 1
  done
}

until_ok_within "primary, replicas and sentinels are ready" ready
echo "load: $FIRST is the primary, with two replicas and three sentinels"
load $FIRST $BURSTS_MAX >/run/first && fail "the primary outlived the load"
echo "load: the primary has gone: $(grep -v "^\"" /run/first | head -n 1)"

until_ok_within "the sentinels have failed over" failed_over
for s in $SERVERS; do [ $s = $primary ] || [ $s = $FIRST ] || replica=$s; done
kept=$(cli $primary dbsize)
echo "load: $primary is the primary now, with $kept keys"
load $primary $AFTER >/run/second || fail "writes to the new primary: $(tail -n 1 /run/second)"
tail -n 1 /run/second
until_ok_within "the replica confirms a write" write_to_both

there=$(what_has $primary)
[ "$there" = "$(what_has $replica)" ] || fail "$replica does not have what $primary has: $there"
{
  read -r digest
  read -r count
  read -r last
} <<END
$there
END
[ "$count" -gt "$kept" ] || fail "the load after the failover left no key"
[ "$last" = "written by $name" ] || fail "the last write is lost"
echo "load: $primary and $replica hold the same $count keys, digest $digest"

# Shut down, a sentinel or a server closes the connection without an answer.
for s in $SERVERS; do sentinel $s shutdown; done
cli $replica shutdown nosave
cli $primary shutdown nosave
echo "OK redis load"
