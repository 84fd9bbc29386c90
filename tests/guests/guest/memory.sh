# Fills most of its memory by the program on its disk (memory.c), and rests.
cat /dev/vda >/tmp/memory
chmod +x /tmp/memory
mount -o remount,size=95% /run
free=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
/tmp/memory /run/filled $((free - 40)) || exit 1
sleep 7 # at rest, so that its state is compared
echo "OK memory"
