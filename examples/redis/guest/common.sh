# What servers and client share. Every wait ends: a guest that gives up says so and powers off.
. /usr/lib/guest.sh
FIRST=10.79.0.1
SERVERS="10.79.0.1 10.79.0.2 10.79.0.3"
SENTINEL=26379
QUORUM=2
PATIENCE_S=90
PAUSE_S=2
ANSWER_S=10

host=${address%/*}
name=r${host##*.}
[ $role = server ] || name=$role

fail() {
  echo "FAIL redis $name: $*"
  for log in /run/redis.log /run/sentinel.log; do [ ! -f $log ] || tail -n 5 $log; done
  for s in $SERVERS; do
    echo "$s: $(cli $s info replication | grep -E '^(role|master_|connected_|slave)' | tr '\r\n' '  ')"
  done
  exit 1
}

# cli HOST COMMAND…, sentinel HOST COMMAND…: one request
cli() {
  at=$1
  shift
  timeout $ANSWER_S redis-cli -h $at "$@" 2>/dev/null
}
sentinel() {
  at=$1
  shift
  timeout $ANSWER_S redis-cli -h $at -p $SENTINEL "$@" 2>/dev/null
}

# of HOST SECTION FIELD: a field of INFO
of() {
  cli $1 info $2 | tr -d '\r' | sed -n "s/^$3://p"
}

# has_replicas: whether the first server has both replicas in step
has_replicas() {
  [ "$(cli $FIRST info replication | grep -c state=online)" = 2 ]
}

# primary_by HOST: the primary's address, as the sentinel there has it
primary_by() {
  sentinel $1 sentinel get-master-addr-by-name shop | head -n 1
}
