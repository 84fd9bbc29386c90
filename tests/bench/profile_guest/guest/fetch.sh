# Once serve answers: idles for some seconds, then fetches its file and pings it.
server=10.76.0.1
tries=0
until wget -q -O /run/sum http://$server/sum 2>/dev/null; do
  tries=$((tries + 1))
  [ $tries -lt 300 ] || exit 1
  sleep 0.2
done
echo "PHASE idle"
sleep 5
echo "PHASE transfer"
wget -q -O /run/blob http://$server/blob || exit 2
[ "$(md5sum </run/blob)" = "$(cat /run/sum)" ] || exit 3
ping -q -i 0.05 -c 40 $server >/dev/null || exit 4
echo "PHASE end"
echo done | nc $server 9000
echo "OK fetch"
