# Says "READY" and, some time after its peer (peers=A) has too, pings it; fails or not by the last digit of the time
# that the ping took. One of the two may boot seconds before the other: nothing is tossed before both are ready.
peer=$(sed -n 's/.*peers=\([0-9.]*\).*/\1/p' /proc/cmdline)
www=/run/www
mkdir $www
# await FILE TRIES: until the peer has it; status 1 where it does not get it
await() {
  tries=0
  until timeout 2 wget -q -O /dev/null "http://$peer/$1" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt "$2" ] || return 1
    sleep 0.1
  done
}
echo "READY to toss"
touch $www/ready
httpd -h $www
await ready 100 || { echo "FAIL toss: $peer is not ready"; exit 2; }
sleep 1
answer=$(ping -c 1 -W 10 "$peer" | grep time=)
digits=${answer##*.}
digits=${digits%% ms*}
echo "TOSSED $digits: $answer"
touch $www/tossed
await tossed 15 # one that has gone has tossed
sleep 1 # its peer may still ask
case $digits in *[0-5]) exit 1 ;; esac
