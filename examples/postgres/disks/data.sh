# Fills the disk: a database cluster with pgbench's tables and a ledger, shut down in order. It runs in a
# guest when the image is built. A standby may start from a copy of it: it is the same cluster. It asks for
# the log from the start of a segment on, so the last one holds no more than the checkpoints at the end.
export PATH=/usr/lib/postgresql/15/bin:$PATH
export TZ=GMT
mkdir -p /data /dev/shm
mount -t tmpfs shm /dev/shm
mount /dev/vda /data || exit 1
mkdir /data/db
chown -R postgres:postgres /data/db
cd /run
chmod 1777 /run

as_postgres() {
  su -c 'exec "$@"' -- postgres sh "$@"
}

as_postgres initdb -D /data/db --no-sync --data-checksums --no-locale -E UTF8 --wal-segsize=4 \
  --auth=trust >/run/initdb.log 2>&1 || { cat /run/initdb.log; exit 1; }
as_postgres pg_ctl -D /data/db -w -l /run/log -o "-c fsync=off -c listen_addresses= -k /run" start || { cat /run/log; exit 1; }
as_postgres psql -h /run -q -v ON_ERROR_STOP=1 postgres <<'SQL' || exit 1
CREATE ROLE bench LOGIN SUPERUSER;
CREATE EXTENSION amcheck;
CREATE TABLE ledger (run text, client int, n int, PRIMARY KEY (run, client, n));
SQL
as_postgres pgbench -h /run -U bench -i -s 1 -q postgres || exit 1
as_postgres psql -h /run -U bench -q -c 'SELECT pg_switch_wal()' -c 'CHECKPOINT' postgres || exit 1
as_postgres pg_ctl -D /data/db -w -m fast stop || exit 1
cat >>/data/db/pg_hba.conf <<'HBA'
host all         all 10.79.0.0/24 trust
host replication all 10.79.0.0/24 trust
HBA
rm -f /data/db/postmaster.pid /data/db/postmaster.opts
du -sk /data/db
umount /data
