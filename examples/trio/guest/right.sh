# Right: talks to the hub, to left, and over the uplink to the host if there is one.
peer=left
. /guest/leaf.sh
if [ -n "$gateway" ] && ping -c 3 -W 1 "$gateway"; then
  if timeout 5 wget -q -O /tmp/page "http://$gateway:8077/"; then
    echo "right got $(wc -c </tmp/page) bytes from the host, md5 $(md5sum </tmp/page | cut -c 1-32)"
  else
    echo "right: the host serves nothing on port 8077"
  fi
else
  echo "right: no host in reach"
fi
report done
until_ok "the hub says bye" grep -q "hub bye" $heard
echo "OK trio right"
