# What the roles of the trio share. Every wait ends: a guest that gives up says so and powers off.
. /usr/lib/guest.sh
HUB=10.77.0.1
BROADCAST=10.77.0.255
TALK=7777    # UDP, broadcasts
REPORTS=9000 # TCP, to the hub
PATIENCE=300 # tries
PAUSE_S=0.2
heard=/run/heard
echo "nameserver $HUB" >/etc/resolv.conf

fail() {
  echo "FAIL trio $role: $*"
  exit 1
}

# serve_blob KIB: makes a random file and serves it, with its checksum, over HTTP
serve_blob() {
  mkdir -p /run/www
  dd if=/dev/urandom of=/run/www/blob bs=1k count="$1" 2>/dev/null
  md5sum </run/www/blob >/run/www/blob.md5
  httpd -h /run/www
  echo "$role serves $1 KiB, md5 $(cut -c 1-32 /run/www/blob.md5)"
}

# listen: keeps every broadcast in the file "heard", a line each
listen() {
  nc.openbsd -d -u -l -k $TALK >$heard 2>/dev/null &
}

# broadcast_lines: sends what it reads, a datagram a line
broadcast_lines() {
  nc.openbsd -u -b -q 0 $BROADCAST $TALK
}

# say COUNT TEXT: broadcasts the text COUNT times, numbered
say() {
  i=0
  while [ $i -lt "$1" ]; do
    i=$((i + 1))
    echo "$2 $i"
    sleep 0.2
  done | broadcast_lines
}

# fetch HOST: gets the blob of another guest and compares checksums
fetch() {
  until_ok "the checksum of $1" wget -q -O /tmp/expected "http://$1/blob.md5"
  wget -q -O /tmp/blob "http://$1/blob" || fail "no blob from $1"
  md5sum </tmp/blob >/tmp/actual
  cmp -s /tmp/expected /tmp/actual || fail "the blob of $1 arrived broken"
  echo "$role got $(wc -c </tmp/blob) bytes from $1, md5 $(cut -c 1-32 /tmp/actual)"
}

# report TEXT: tells the hub
report() {
  until_ok "the hub takes reports" tell "$role $1"
}
tell() {
  echo "$1" | nc.openbsd -q 1 -w 10 $HUB $REPORTS
}
