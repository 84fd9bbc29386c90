# A redis server with a sentinel beside it; the one at $FIRST starts as the primary, and is killed
# while the client loads it. A server's work is done when the client has shut its sentinel down.
KILL_AT=400 # keys
. /guest/common.sh
PATIENCE_S=300 # a server's one wait is as long as several of the client's

start_server() {
  following=
  [ $host = $FIRST ] || following="--replicaof $FIRST 6379"
  redis-server --bind 0.0.0.0 --protected-mode no --save "" --dir /run --logfile /run/redis.log \
    --repl-diskless-sync-delay 0 --repl-ping-replica-period 1 --hz 1 --enable-debug-command yes \
    $following &
  server=$!
}
start_sentinel() {
  cat >/run/sentinel.conf <<CONF
bind 0.0.0.0
protected-mode no
logfile /run/sentinel.log
dir /run
sentinel monitor shop $FIRST 6379 $QUORUM
sentinel down-after-milliseconds shop 2000
sentinel failover-timeout shop 20000
CONF
  redis-sentinel /run/sentinel.conf &
  sentinel=$!
  touch /run/sentinel.log
  tail -f /run/sentinel.log | show_events &
}
# The sentinel's log has "PID:X DATE TIME # +event …"; the rest of it is of no interest here.
show_events() {
  while read -r id day month year time mark event; do
    case $event in
      +sdown* | +odown* | +vote* | +elected* | +promoted* | +switch* | +tilt*) echo "$name sentinel: $event" ;;
    esac
  done
}
keys_at_least() {
  [ "$(cli $host dbsize)" -ge $1 ]
}
gone() {
  [ ! -d /proc/$1 ]
}

start_server
until_ok_within "the replicas are there" has_replicas # which a sentinel looks for now, and then in 10 s
start_sentinel

if [ $host = $FIRST ]; then
  until_ok_within "the load has come" keys_at_least $KILL_AT
  kill -9 $server
  wait $server
  echo "$name, the primary, was killed: status $?"
fi

until_ok_within "the client is done" gone $sentinel
wait $sentinel
[ $host = $FIRST ] || wait $server || fail "the server ended with status $?"
grep -q "+switch-master shop $FIRST" /run/sentinel.log || fail "its sentinel has seen no failover"
echo "OK redis $name"
