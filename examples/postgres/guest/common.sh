# What the roles share. Every wait ends: a guest that gives up says so and powers off.
. /usr/lib/guest.sh
PRIMARY=10.79.0.1
STANDBY=10.79.0.2
ORDERS=9000  # TCP: what the client tells the others
PATIENCE=300 # tries
PAUSE_S=1
orders=/run/orders
export PATH=/usr/lib/postgresql/15/bin:$PATH
export TZ=GMT PGUSER=bench PGDATABASE=postgres PGCONNECT_TIMEOUT=20

fail() {
  echo "FAIL postgres $role: $*"
  [ ! -f /data/log ] || tail -n 15 /data/log
  exit 1
}

as_postgres() {
  su -c 'exec "$@"' -- postgres sh "$@"
}

# sql HOST TEXT: the answer, bare
sql() {
  timeout 60 psql -h "$1" -X -A -t -q -v ON_ERROR_STOP=1 -c "$2"
}

# mount_data: the disk with the database
mount_data() {
  mkdir -p /data /dev/shm
  mount -t tmpfs shm /dev/shm
  mount /dev/vda /data || fail "no disk"
  chmod 1777 /run
  touch /data/log
  chown postgres /data/log
}

# configure: takes settings, a line each, from standard input; then those of every server here
configure() {
  cat >>/data/db/postgresql.auto.conf
  cat >>/data/db/postgresql.auto.conf <<'SETTINGS'
listen_addresses = '*'
unix_socket_directories = '/run'
shared_buffers = 32MB
max_wal_size = 64MB
min_wal_size = 8MB
autovacuum = off
jit = off
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 500ms
SETTINGS
}

start_server() {
  as_postgres pg_ctl -D /data/db -w -t 120 -l /data/log start >/run/pg_ctl 2>&1 ||
    fail "the server does not start: $(tail -n 2 /run/pg_ctl)"
}
