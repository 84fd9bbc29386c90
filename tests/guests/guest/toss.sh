# Says "READY" and, some time after its peer (peers=A) has too, pings it; fails or not by the last digit of the time
# that the ping took. One of the two may boot seconds before the other: nothing is tossed before both are ready.
peer=$(sed -n 's/.*peers=\([0-9.]*\).*/\1/p' /proc/cmdline)
www=/run/www
mkdir $www
has() { timeout 2 wget -q -O /dev/null "http://$peer/$1" 2>/dev/null; }
answers() { ping -c 1 -W 2 "$peer" >/dev/null; }
echo "READY to toss"
touch $www/ready
httpd -h $www
tries=0
until has ready; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { echo "FAIL toss: $peer is not ready"; exit 2; }
  sleep 0.1
done
sleep 1
answer=$(ping -c 1 -W 10 "$peer" | grep time=)
digits=${answer##*.}
digits=${digits%% ms*}
echo "TOSSED $digits: $answer"
touch $www/tossed
tries=0
until has tossed || ! answers; do # one that has gone has tossed
  tries=$((tries + 1))
  [ $tries -lt 100 ] || break
  sleep 0.1
done
sleep 1 # its peer may still ask
case $digits in *[0-5]) exit 1 ;; esac
