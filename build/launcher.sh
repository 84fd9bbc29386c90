#!/bin/sh
trap 'echo "clusterrr: $0 is damaged: copy it again, whole" >&2; exit 1' EXIT # until all of this text has been read
#
# clusterrr @VERSION@ (@COMMIT@), one file. Behind this text stand clusterrr's code and the Deno runtime, each
# packed with gzip. The first start unpacks them into a cache, under names that hold their digests; every start then
# becomes the runtime (exec), so that signals, exit statuses and the process number are clusterrr's own.
#
# The cache is CLUSTERRR_CACHE, or else the first of these that is the user's own and can be written to:
# $XDG_CACHE_HOME/clusterrr, $HOME/.cache/clusterrr, /var/cache/clusterrr, $TMPDIR/clusterrr-UID. Nothing else that
# somebody else could have written to is ever executed. /var/cache/clusterrr, which only root can fill, serves all users.
#
# build/self_extracting.ts replaces the words between @. Nothing but the last lines runs anything.

runtime=deno-@RUNTIME_DIGEST@
app=clusterrr-@APP_DIGEST@.mjs

# The code and the runtime, packed.
payload() { tail -c @PAYLOAD_BYTES@ "$self"; }

complete() { [ -x "$1/$runtime" ] && [ -r "$1/$app" ]; }

# Writes standard input, unpacked, to the file $1 with mode $2, which appears whole or not at all.
unpack_file() {
  new=$(mktemp "$1.XXXXXX") || return 1
  trap 'rm -f "$new"' EXIT
  if gzip -dc >"$new" && chmod "$2" "$new"; then
    sync "$new" 2>/dev/null # a power failure must not leave an empty file under that name
    mv -f "$new" "$1" && return
  fi
  rm -f "$new"
  return 1
}

# Unpacks what is missing into the directory $1. A subshell: umask, PATH and traps stay here. Status 3: damaged.
unpack() (
  umask 022
  PATH=/usr/bin:/bin${PATH:+:$PATH}
  trap 'exit 1' HUP INT TERM
  mkdir -p "$1" || exit 1
  digest=$(payload | sha256sum) || exit 1
  [ "${digest%% *}" = @PAYLOAD_DIGEST@ ] || exit 3
  [ -r "$1/$app" ] || payload | head -c @APP_BYTES@ | unpack_file "$1/$app" 644 || exit 1
  [ -x "$1/$runtime" ] || tail -c @RUNTIME_BYTES@ "$self" | unpack_file "$1/$runtime" 755 || exit 1
  complete "$1" || echo "$1: files there cannot be executed"
)

# Becomes clusterrr as it is unpacked in $1, with the arguments behind it.
become() {
  cache=$1
  shift
  # main.ts gives the user's DENO_DIR back to what clusterrr starts.
  if [ -n "${DENO_DIR+set}" ]; then export CLUSTERRR_DENO_DIR="$DENO_DIR"; fi
  export DENO_DIR="$cache/deno" DENO_NO_UPDATE_CHECK=1 DENO_NO_PACKAGE_JSON=1
  exec "$cache/$runtime" run -A --no-config --no-lock --no-remote --no-npm --unstable-kv "$cache/$app" "$@"
}

# Unpacks into the directory $1 and goes on there; returns where it cannot be used.
try() {
  directory=$1
  shift
  why=$(unpack "$directory" 2>&1)
  case $? in
    0) if complete "$directory"; then become "$directory" "$@"; fi ;;
    3)
      echo "clusterrr: $self is damaged: copy it again, whole" >&2
      exit 1
      ;;
  esac
  reasons="$reasons
  $why"
}

main() {
  trap - EXIT
  case $0 in /*) self=$0 ;; *) self=$PWD/$0 ;; esac
  reasons=
  own=
  if [ -n "${CLUSTERRR_CACHE-}" ]; then
    if complete "$CLUSTERRR_CACHE"; then become "$CLUSTERRR_CACHE" "$@"; fi
    try "$CLUSTERRR_CACHE" "$@"
  else
    if [ -n "${XDG_CACHE_HOME-}" ]; then
      own=$XDG_CACHE_HOME/clusterrr
      if [ -e "$XDG_CACHE_HOME" ] && [ ! -O "$XDG_CACHE_HOME" ]; then own=; fi
    elif [ -n "${HOME-}" ] && [ -O "$HOME" ]; then
      own=$HOME/.cache/clusterrr
    fi
    if [ -e "$own" ] && [ ! -O "$own" ]; then own=; fi
    if [ -n "$own" ] && complete "$own"; then become "$own" "$@"; fi
    if complete /var/cache/clusterrr; then become /var/cache/clusterrr "$@"; fi
    if [ -n "$own" ]; then try "$own" "$@"; fi
    if [ -w /var/cache ] && [ -O /var/cache ]; then try /var/cache/clusterrr "$@"; fi
    user=$(PATH=/usr/bin:/bin${PATH:+:$PATH} && id -u)
    temporary=${TMPDIR:-/tmp}/clusterrr-$user
    (PATH=/usr/bin:/bin${PATH:+:$PATH} && mkdir -m 700 "$temporary") 2>/dev/null
    if [ -O "$temporary" ] && [ ! -L "$temporary" ]; then
      if complete "$temporary"; then become "$temporary" "$@"; fi
      try "$temporary" "$@"
    else
      reasons="$reasons
  $temporary: cannot be made, or is not user $user's"
    fi
  fi
  echo "clusterrr: it finds no place to unpack itself (about @UNPACKED_MB@ MB):$reasons
Set CLUSTERRR_CACHE to a directory that you can write to and execute files in." >&2
  exit 1
}

{ main "$@"; exit 1; }
