# Once peers=A answers, pings it by three programs at once from "READY" on; no request and no answer may
# be lost. It counts in the kernel: the programs lose answers when they are late.
peer=$(sed -n 's/.*peers=\([0-9.]*\).*/\1/p' /proc/cmdline)
counter() {
  awk -v name="$1" '/^Icmp:/ { if (!n) { for (i = 2; i <= NF; i++) if ($i == name) n = i } else print $n }' \
    /proc/net/snmp
}
tries=0
until ping -c 1 -W 1 "$peer" >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 200 ] || exit 1
  sleep 0.2
done
sleep 1
sent=$(counter OutEchos) answers=$(counter InEchoReps) asked=$(counter InEchos)
echo "READY to ping"
for i in 1 2 3; do ping -q -i 0.01 -s 400 -c 200 "$peer" >/dev/null & done
wait
# Its peer may still need the answers: until all its requests have come, and a moment more.
tries=0
until [ $(($(counter InEchos) - asked)) -ge 600 ] || [ $tries -ge 60 ]; do
  tries=$((tries + 1))
  sleep 0.2
done
sleep 1
sent=$(($(counter OutEchos) - sent)) answers=$(($(counter InEchoReps) - answers))
echo "COUNTED $sent requests, $answers answers"
[ "$sent" = 600 ] && [ "$answers" = 600 ]
