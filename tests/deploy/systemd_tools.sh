#!/bin/sh
# Installs what the tests of deploy/ need, systemd-analyze: as root, in CI, or with sudo if the argument is `sudo`.
# Otherwise it says what is missing.
set -eu

is_there() { command -v systemd-analyze >/dev/null; }
install() { $1 apt-get update -qq && $1 apt-get install -y -qq --no-install-recommends systemd >/dev/null; }

is_there && exit 0
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then install "" || true
    elif [ -n "${CI:-}" ]; then install "sudo -n" || true
    elif [ "${1:-}" = sudo ]; then install sudo || true
    fi
fi
is_there || echo "systemd: its units are not tested; on Debian or Ubuntu: apt-get install systemd" >&2
