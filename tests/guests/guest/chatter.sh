# Pings the address in peers=A ten times a second and never ends by itself.
peer=$(sed -n 's/.*peers=\([0-9.]*\).*/\1/p' /proc/cmdline)
while true; do ping -i 0.1 -s 400 "$peer"; done
