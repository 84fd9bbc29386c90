# What the roles share. Every wait ends: a guest that gives up says so and powers off.
FRONT=10.78.0.1
WEB1=10.78.0.2
WEB2=10.78.0.3
CLIENT=10.78.0.4
ORDERS=9000 # TCP: what the client tells the others
PATIENCE=450 # tries of 0.2 s
PAGE_LINES=700     # 2.7 kB: one write of a backend
LARGE_LINES=40000  # 229 kB: many
orders=/run/orders

fail() {
  echo "FAIL nginx $role $address: $*"
  exit 1
}

# until_ok WHAT COMMAND…: repeats the command until it works
until_ok() {
  what=$1
  shift
  tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt $PATIENCE ] || fail "gave up waiting: $what"
    sleep 0.2
  done
}

# make_pages FOLDER: the site, the same on every guest
make_pages() {
  mkdir -p "$1"
  seq 1 $PAGE_LINES >"$1/page"
  seq 1 $LARGE_LINES >"$1/large"
}

# start_nginx CONFIGURATION
start_nginx() {
  mkdir -p /var/lib/nginx
  nginx -e /run/error.log -c "/guest/$1" || fail "nginx does not start: $(cat /run/error.log)"
}

# take_orders: keeps what the client says in the file "orders", a line each
take_orders() {
  nc.openbsd -d -l -k $ORDERS >$orders 2>/dev/null &
}

# order HOST WORD: tells another guest
order() {
  until_ok "$1 takes the order $2" send_order "$1" "$2"
}
send_order() {
  echo "$2" | nc.openbsd -q 1 -w 10 "$1" $ORDERS
}
