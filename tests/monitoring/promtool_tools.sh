#!/bin/sh
# Fetches what the test of the alarms needs, promtool, into the folder that is named: out of Debian's package `prometheus`,
# which is not installed, as it would start a server. Otherwise it says what is missing.
set -eu

into=$1
is_there() { command -v promtool >/dev/null || [ -x "$into/promtool" ]; }
download() { apt-get download -qq -o APT::Sandbox::User=root prometheus 2>/dev/null; }
update() {
    if [ "$(id -u)" = 0 ]; then apt-get update -qq
    elif [ -n "${CI:-}" ]; then sudo -n apt-get update -qq
    else return 1
    fi
}
fetch() {
    cd "$1" && { download || { update && download; }; } && dpkg-deb --fsys-tarfile prometheus_*.deb >package.tar \
        && tar -xf package.tar ./usr/bin/promtool && install -m 0755 usr/bin/promtool "$into/promtool"
}

is_there && exit 0
if command -v apt-get >/dev/null; then
    into=$(cd "$into" && pwd)
    folder=$(mktemp -d)
    (fetch "$folder") || true
    rm -rf "$folder"
fi
is_there || echo "promtool: the alarms are not looked at by Prometheus; on Debian or Ubuntu: apt-get install prometheus" >&2
