# What roles of several examples do, in every image as /usr/lib/guest.sh. Who sources it defines `fail WHY`,
# which ends the role. Every wait ends.

# until_ok WHAT COMMAND…: repeats the command, silently, until it works: $PATIENCE times, $PAUSE_S apart
until_ok() {
  what=$1
  shift
  tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt $PATIENCE ] || fail "gave up waiting: $what"
    sleep $PAUSE_S
  done
}

# until_ok_within WHAT COMMAND…: repeats the command until it works, for $PATIENCE_S of the guest's clock
until_ok_within() {
  what=$1
  shift
  read -r now rest </proc/uptime
  deadline=$((${now%.*} + PATIENCE_S))
  until "$@"; do
    read -r now rest </proc/uptime
    [ ${now%.*} -lt $deadline ] || fail "gave up waiting: $what"
    sleep $PAUSE_S
  done
}

# take_orders: keeps what another guest says in the file $orders, a line each
take_orders() {
  nc.openbsd -d -l -k $ORDERS >$orders 2>/dev/null &
}

# order HOST WORD: tells another guest, at its TCP port $ORDERS
order() {
  until_ok "$1 takes the order $2" send_order "$1" "$2"
}
send_order() {
  echo "$2" | nc.openbsd -q 1 -w 10 "$1" $ORDERS
}
