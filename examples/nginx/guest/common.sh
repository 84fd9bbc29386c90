# What the roles share. Every wait ends: a guest that gives up says so and powers off.
. /usr/lib/guest.sh
FRONT=10.78.0.1
WEB1=10.78.0.2
WEB2=10.78.0.3
CLIENT=10.78.0.4
ORDERS=9000 # TCP: what the client tells the others
PATIENCE=300 # tries
PAUSE_S=1
PAGE_LINES=700     # 2.7 kB: one write of a backend
LARGE_LINES=40000  # 229 kB: many
orders=/run/orders

fail() {
  echo "FAIL nginx $role $address: $*"
  exit 1
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
