#!/bin/sh
# Installs what the tests of galleries in PostgreSQL need, a server: as root, in CI, or with sudo if the argument is
# `sudo`. Otherwise it says what is missing.
set -eu

is_there() { command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }
install() { $1 apt-get update -qq && $1 apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }

is_there && exit 0
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then install "" || true
    elif [ -n "${CI:-}" ]; then install "sudo -n" || true
    elif [ "${1:-}" = sudo ]; then install sudo || true
    fi
fi
is_there || echo "postgres: galleries in PostgreSQL are not tested; on Debian or Ubuntu: apt-get install postgresql" >&2
