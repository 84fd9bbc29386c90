#!/bin/sh
# Compiles recorder.bpf.c to $1 (default: recorder.bpf.o beside it). Needs clang 14, libbpf-dev and
# linux-libc-dev of Debian 12. The object holds no path, no time and no debug information, so the same
# compiler gives the same bytes: build_test.ts compares them with the committed object.
set -eu
here=$(dirname "$(readlink -f "$0")")
out=$(readlink -f "${1:-$here/recorder.bpf.o}")
cd "$here"
exec clang -target bpf -mcpu=v3 -O2 -g0 -std=gnu11 -Wall -Wextra -Werror -fno-ident -fno-addrsig \
  -isystem "/usr/include/$(uname -m)-linux-gnu" -c recorder.bpf.c -o "$out"
