#!/bin/sh
# Builds source distribution and wheel of the last commit twice, in folders and time zones that differ, and compares
# them byte by byte. Argument: a Python that has `build`. They are left in dist/.
set -eu

python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
# What builds it has a version too.
PIP_CONSTRAINT=$root/constraints.txt
export SOURCE_DATE_EPOCH PIP_CONSTRAINT

umask 022
build() { # folder, time zone, where to
    (
        mkdir -p "$work/$1"
        git archive "$commit" | tar -x -C "$work/$1"
        # Dates of files are those of the checkout: today's.
        find "$work/$1" -exec touch {} +
        cd "$work/$1" && TZ=$2 "$python" -m build --outdir "$work/$3" . >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    )
}

build one UTC first
build another/and/a/longer/one Asia/Tokyo second
mkdir -p dist
for file in "$work"/first/*; do
    cmp "$file" "$work/second/${file##*/}" || { echo "${file##*/} is not the same twice" >&2; exit 1; }
    cp "$file" dist/
    sha256sum "dist/${file##*/}"
done
