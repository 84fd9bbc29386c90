# Prints what clocks and random numbers it gets, twice: from the kernel, and by the program on its disk (clocks.c).
cat /dev/vda >/tmp/clocks
chmod +x /tmp/clocks
for round in 1 2; do
  echo "ROUND $round"
  /tmp/clocks || exit 1
  echo "uuid $(cat /proc/sys/kernel/random/uuid)"
  echo "urandom $(head -c 16 /dev/urandom | hexdump -v -e '/1 "%02x"')"
  echo "date $(date +%s), uptime $(cat /proc/uptime)"
  echo "hwclock $(hwclock)"
  sleep 1
done
echo "OK clocks"
