# Pings peers=A some time after "READY" and fails or not by the last digit of the time that it took.
peer=$(sed -n 's/.*peers=\([0-9.]*\).*/\1/p' /proc/cmdline)
echo "READY to toss"
sleep 1
tries=0
until answer=$(ping -c 1 -W 1 "$peer" | grep time=); do
  tries=$((tries + 1))
  [ $tries -lt 50 ] || exit 0
  sleep 0.1
done
digits=${answer##*.}
digits=${digits%% ms*}
echo "TOSSED $digits: $answer"
sleep 1
case $digits in *[0-5]) exit 1 ;; esac
