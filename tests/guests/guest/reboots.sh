# Counts its boots on its disk and pings peers=A after each. It reboots right after writing, while it still sends; after
# three boots it is done. (QEMU stands still where a disk is reset while it is at work.)
peer=$(sed -n 's/.*peers=\([0-9.]*\).*/\1/p' /proc/cmdline)
boots=$(($(head -c 1 /dev/vda) + 1))
printf '%s' "$boots" | dd of=/dev/vda bs=1 count=1 conv=notrunc,fsync 2>/dev/null
dd if=/dev/urandom of=/dev/vda bs=4k seek=$boots count=1 conv=notrunc,fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
echo "BOOT $boots: $(head -c 32768 /dev/vda | md5sum), $(cat /proc/sys/kernel/random/uuid)"
tries=0
until ping -c 2 -i 0.2 -W 1 "$peer"; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || exit 1
  sleep 0.2
done
[ "$boots" -lt 3 ] || { echo "OK reboots"; exit 0; }
ping -i 0.02 "$peer" >/dev/null &
for at in 1 2 3 4; do
  dd if=/dev/urandom of=/dev/vda bs=64k seek=$((at * 4)) count=4 conv=notrunc,fsync 2>/dev/null &
  writers="$writers $!"
done
wait $writers
echo "REBOOTING"
reboot -f
