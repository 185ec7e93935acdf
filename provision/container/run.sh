#!/bin/sh
# Runs a program in the container, Kiro's chat unless told another: the folder it is called in is all that is mounted.
#   cd ~/my-project && sh run.sh [kiro-cli login --use-device-flow]
# ENGINE: docker or podman; IMAGE: another image; ROOTFS: an unpacked one in its place; NETWORK: none, host, or a network
# of the engine's; LOGIN: the volume or folder with Kiro's login; SECCOMP: another profile of system calls. run.env beside
# this script may set them.
#
# What this wall does not stop: the kernel is shared; the mounted folder can be read and written, and what is written
# there runs later outside; the network is not a list of names; Kiro's login, on its volume, can be read by all inside.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
[ ! -f "$here/run.env" ] || . "$here/run.env"
workspace=$(pwd -P)
case $workspace in
/ | "$HOME")
  echo "\"$workspace\" is too much to mount: go into the folder of one project" >&2
  exit 2
  ;;
*:* | *,*)
  echo "a folder with : or , in its path cannot be mounted" >&2
  exit 2
  ;;
esac
engine=${ENGINE:-docker}

[ "$#" -gt 0 ] || set -- kiro-cli chat
if [ -n "${ROOTFS:-}" ]; then # it has no settings of its own, as an image has
  set -- --env HOME=/home/agent --env PATH=/home/agent/.local/bin:/usr/local/bin:/usr/bin:/bin \
    --env KIRO_NO_AUTO_UPDATE=1 --rootfs "$ROOTFS" "$@"
else
  set -- "${IMAGE:-vmkit-kiro}" "$@"
fi
if [ -t 0 ] && [ -t 1 ]; then set -- --tty "$@"; fi
pids=${PIDS-1024}
[ -z "$pids" ] || set -- "--pids-limit=$pids" "$@"
[ -z "${NETWORK:-}" ] || set -- "--network=$NETWORK" "$@"
[ -z "${SECCOMP:-}" ] || set -- "--security-opt=seccomp=$SECCOMP" "$@"
# Whom the computer trusts, the container trusts, where run.env names the file.
trusted=/etc/ssl/certs/ca-certificates.crt
[ -z "${CERTIFICATES:-}" ] || set -- --volume "$CERTIFICATES:$trusted:ro" --env "SSL_CERT_FILE=$trusted" "$@"
[ -z "${KIRO_API_KEY:-}" ] || set -- --env KIRO_API_KEY "$@"
quiet=
case $engine in
*podman)
  quiet=--log-level=error # where no systemd session is, it warns of that
  [ "$(id -u)" = 0 ] || set -- --userns=keep-id "$@" # the user inside is the one outside
  ;;
esac
# shellcheck disable=SC2086
exec "$engine" $quiet run --rm --interactive --init --pull=never \
  --read-only --tmpfs /tmp:rw,nosuid,nodev --tmpfs /home/agent/.cache:rw,nosuid,nodev,mode=1777 \
  --tmpfs /home/agent/.local/state:rw,nosuid,nodev,mode=1777 \
  --cap-drop=ALL --security-opt=no-new-privileges \
  --volume "${LOGIN:-vmkit-kiro-login}:/home/agent/.local/share/kiro-cli" --volume vmkit-kiro-settings:/home/agent/.kiro \
  --volume "$workspace:$workspace" --workdir "$workspace" "$@"
