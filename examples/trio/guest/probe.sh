# The least a guest can do: pings the address given as peer=, which need not answer.
peer=$(sed -n 's/.*peer=\([0-9.]*\).*/\1/p' /proc/cmdline)
. /guest/common.sh
until_ok "$peer answers pings" ping -c 1 -W 1 "$peer"
ping -c 3 -i 0.2 "$peer"
echo "OK probe"
