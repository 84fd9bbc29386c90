#!/bin/sh
# The first program of every example guest: mounts, loads modules, sets the address, runs the role.
#
# From the kernel's arguments: ip=ADDRESS/BITS, gw=ADDRESS (optional), role=NAME.
# The role is /guest/NAME.sh; the console ends with "GUEST role=NAME status=N", then power goes off.
# busybox finds its own commands through /proc/self/exe, without links in PATH; hence the first line.
export PATH=/usr/sbin:/usr/bin HOME=/
/bin/busybox mount -t proc proc /proc
# Sleeps may end 20 ms late, several together: each time that a guest wakes is some 20 events in the recording.
echo 20000000 >/proc/self/timerslack_ns
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
while read -r module; do insmod "$module"; done </usr/lib/modules/load-order

for argument in $(cat /proc/cmdline); do
  case $argument in
    ip=*) address=${argument#ip=} ;;
    gw=*) gateway=${argument#gw=} ;;
    role=*) role=${argument#role=} ;;
  esac
done
ip link set lo up
if [ -n "$address" ]; then
  ip address add "$address" broadcast + dev eth0
  ip link set eth0 up
  [ -z "$gateway" ] || ip route add default via "$gateway"
fi

echo "GUEST role=$role address=$address up"
cd /run
export role address gateway
if [ -f "/guest/$role.sh" ]; then
  sh "/guest/$role.sh"
  echo "GUEST role=$role status=$?"
else
  echo "GUEST role=$role status=127 (no /guest/$role.sh in this image)"
fi
poweroff -f
