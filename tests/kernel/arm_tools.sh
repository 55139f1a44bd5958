#!/bin/sh
# Installs what tests/kernel/test_portable_elsewhere.py needs, a compiler for 64-bit Arm and qemu: as root, in CI, or with
# sudo if the argument is `sudo`. Otherwise it says what is missing.
set -eu

tools="aarch64-linux-gnu-gcc qemu-aarch64-static"
packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"

are_there() { for tool in $tools; do command -v "$tool" >/dev/null || return 1; done; }
install() { $1 apt-get update -qq && $1 apt-get install -y -qq --no-install-recommends $packages >/dev/null; }

are_there && exit 0
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then install "" || true
    elif [ -n "${CI:-}" ]; then install "sudo -n" || true
    elif [ "${1:-}" = sudo ]; then install sudo || true
    fi
fi
are_there || echo "arm: the portable kernel is not tested on Arm; on Debian or Ubuntu: apt-get install $packages" >&2
