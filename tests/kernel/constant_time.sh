#!/bin/sh
# Builds constant_time.c with the flags of setup.py and runs it under valgrind: silent for the kernel, and not
# silent for a branch and for an address that depend on a secret. Needs gcc, valgrind and its headers.
set -eu
cd "$(dirname "$0")/../.."

if ! command -v valgrind >/dev/null || ! echo '#include <valgrind/memcheck.h>' | ${CC:-gcc} -E - >/dev/null 2>&1; then
    echo "constant-time: valgrind and its headers are missing; on Debian or Ubuntu: apt-get install valgrind" >&2
    exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
${CC:-gcc} -std=c11 -O3 -g -Wall -Wextra -o "$folder/constant_time" \
    tests/kernel/constant_time.c tests/kernel/ifma4_in_plain_c.c crypto/kernel/avx2.c crypto/kernel/portable.c

check() { valgrind --quiet --error-exitcode=1 --track-origins="$1" "$folder/constant_time" "$2"; }

for leak in branch address; do
    if check no "$leak" 2>/dev/null; then
        echo "constant-time: valgrind did not see a deliberate leak ($leak)" >&2
        exit 1
    fi
done
check yes kernel
echo "constant-time: no branch and no address of the kernel depends on a secret; deliberate ones are reported"
