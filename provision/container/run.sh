#!/bin/sh
# Runs a program in the container, Kiro's chat unless told another: the folder it is called in is all that is mounted.
#   cd ~/my-project && sh run.sh [kiro-cli login --use-device-flow]
# ENGINE: docker or podman; IMAGE: another image; NETWORK: none, host, or a network of the engine's; LOGIN: the volume or
# folder with Kiro's login. run.env beside this script may set them.
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
set -- "${IMAGE:-vmkit-kiro}" "$@"
if [ -t 0 ] && [ -t 1 ]; then set -- --tty "$@"; fi
pids=${PIDS-1024}
[ -z "$pids" ] || set -- "--pids-limit=$pids" "$@"
[ -z "${NETWORK:-}" ] || set -- "--network=$NETWORK" "$@"
# Whom the computer trusts, the container trusts, where run.env names the file.
trusted=/etc/ssl/certs/ca-certificates.crt
[ -z "${CERTIFICATES:-}" ] || set -- --volume "$CERTIFICATES:$trusted:ro" --env "SSL_CERT_FILE=$trusted" "$@"
[ -z "${KIRO_API_KEY:-}" ] || set -- --env KIRO_API_KEY "$@"
case $engine in
*podman) [ "$(id -u)" = 0 ] || set -- --userns=keep-id "$@" ;; # the user inside is the one outside
esac
exec "$engine" run --rm --interactive --init --pull=never \
  --read-only --tmpfs /tmp:rw,nosuid,nodev --tmpfs /home/agent/.cache:rw,nosuid,nodev,mode=1777 \
  --tmpfs /home/agent/.local/state:rw,nosuid,nodev,mode=1777 \
  --cap-drop=ALL --security-opt=no-new-privileges \
  --volume "${LOGIN:-vmkit-kiro-login}:/home/agent/.local/share/kiro-cli" --volume vmkit-kiro-settings:/home/agent/.kiro \
  --volume "$workspace:$workspace" --workdir "$workspace" "$@"
