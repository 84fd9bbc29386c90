# A teller. With the kernel argument "fixed", the one with the bug mended.
name=$(sed -n 's/.*name=\([a-z]*\).*/\1/p' /proc/cmdline)
cp /guest/teller.lua /run/teller.lua
if grep -qw fixed /proc/cmdline; then
  patch /run/teller.lua /guest/fix.patch || exit 1
fi
exec lua5.4 /run/teller.lua "$name"
