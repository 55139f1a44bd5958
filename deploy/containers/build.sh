#!/bin/sh
# Builds the image `veilmatch` as docs/deploying.md says, with buildah and no other container engine:
#   deploy/containers/build.sh [NAME]
# BASE: an image to begin with; without it, one of this machine's Debian mirror is made (mmdebstrap). EXTRAS,
# PIP_INDEX_URL and PIP_FIND_LINKS go to the build.
set -eu
cd "$(dirname "$0")/../.."
name=${1:-localhost/veilmatch}
export BUILDAH_ISOLATION=chroot

if [ -z "${BASE:-}" ]; then
    BASE=localhost/veilmatch-base
    if ! buildah inspect --type image "$BASE" >/dev/null 2>&1; then
        root=$(mktemp -d)
        trap 'rm -rf "$root"' EXIT
        mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$root/base.tar"
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$root/base.tar" /
        buildah commit --quiet --rm "$container" "$BASE"
    fi
fi

# The index of packages may have a certificate of an authority that this machine knows and a base does not.
trusted=/etc/ssl/certs/ca-certificates.crt
set -- --build-arg "BASE=$BASE" --build-arg "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)"
if [ -f "$trusted" ]; then set -- "$@" --volume "$trusted:$trusted:ro"; fi
for argument in EXTRAS PIP_INDEX_URL PIP_FIND_LINKS; do
    eval "value=\${$argument:-}"
    if [ -n "$value" ]; then set -- "$@" --build-arg "$argument=$value"; fi
done
buildah build --layers=false --file deploy/containers/Containerfile --tag "$name" "$@" .
