#!/bin/sh
# Builds the container's image from the files beside this script. ENGINE: docker or podman; BASE: another base image.
#
# What this wall does not stop: see README.txt. An image is as good as its base and its packages, which come unpinned.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
. "$here/image.env"
user=$(id -u)
[ "$user" != 0 ] || user=1000

set -- --build-arg "USER_ID=$user" --build-arg "KIRO_ARCHIVE=$KIRO_ARCHIVE" --build-arg "KIRO_SHA256=$KIRO_SHA256" "$@"
[ -z "${BASE:-}" ] || set -- --build-arg "BASE=$BASE" "$@"
exec "${ENGINE:-docker}" build "$@" --tag "${IMAGE:-vmkit-kiro}" --file "$here/Dockerfile" "$here"
