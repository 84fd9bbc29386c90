# Fills most of its memory twice, by the program on its disk (memory.c), and rests after each time.
cat /dev/vda >/tmp/memory
chmod +x /tmp/memory
mount -o remount,size=95% /run
free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
for round in 1 2; do
  /tmp/memory /run/filled $((free - 40)) 1 || exit 1
  sleep 2
done
echo "OK memory"
