# On the host, beside a recording: serves the page that "right" fetches over the uplink.
folder=$(mktemp -d)
server=
trap 'kill $server; rm -r "$folder"; exit 0' TERM INT
echo "A page of the host." >"$folder/index.html"
busybox httpd -f -p 8077 -h "$folder" &
server=$!
wait
