# Sets a machine up for clusterrr: sourced by tests/run.sh and examples/quickstart.sh.
# Needs root (or sudo), apt and Node.js with npm. Run again, it finds everything there and changes nothing.
# Leaves DENO set to the runtime's path, and the dependencies of deno.lock installed.

DENO_VERSION=2.9.6
# What a run needs: QEMU; ip and tc; nft; nsenter and setpriv.
# What examples and tests need: git, busybox for guests, clang and libbpf's headers to rebuild the eBPF object,
# gdb and gcc for guests with symbols, spin and gcc to check the model of the replay window.
PACKAGES="git qemu-system-x86 qemu-utils iproute2 nftables util-linux busybox-static e2fsprogs cpio zstd lz4 \
clang llvm libbpf-dev linux-libc-dev gcc libc6-dev gdb spin $EXTRA_PACKAGES"

say() { printf '==> %s\n' "$*"; }

install_packages() {
  missing=
  for package in $PACKAGES; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
      missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  say "installing Debian packages:$missing"
  as_root=
  [ "$(id -u)" -eq 0 ] || as_root=sudo
  $as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing \
    >/tmp/clusterrr-apt.$$ 2>&1 || { cat /tmp/clusterrr-apt.$$; exit 1; }
  rm -f /tmp/clusterrr-apt.$$
}

install_deno() {
  # npm's `deno` package starts the runtime through a wrapper that leaves it behind on SIGTERM: the
  # platform's own package holds the runtime itself.
  DENO="$ROOT/.tools/node_modules/@deno/linux-x64-glibc/deno"
  if ! "$DENO" --version 2>/dev/null | grep -q "^deno $DENO_VERSION "; then
    say "installing Deno $DENO_VERSION from npm into .tools/"
    npm install --silent --no-save --no-package-lock --prefix "$ROOT/.tools" \
      "@deno/linux-x64-glibc@$DENO_VERSION"
  fi
  PATH="$(dirname "$DENO"):$PATH"
  export DENO PATH DENO_NO_UPDATE_CHECK=1
}

install_dependencies() {
  if ! "$DENO" install --frozen --quiet; then
    say "the dependencies of deno.lock cannot be installed"
    exit 1
  fi
}

cd "$ROOT"
install_packages
install_deno
install_dependencies
