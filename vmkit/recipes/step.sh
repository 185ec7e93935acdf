# Does one step of a recipe in a guest, and stamps it when it is done. vmkit puts this file into the guest and calls
#   sh step.sh script ACCOUNT SECONDS STAMP DIGEST [NAME=VALUE...] <SCRIPT
#   sh step.sh file   ACCOUNT SECONDS STAMP DIGEST TARGET MODE     <CONTENT
# ACCOUNT is root or user. Exit code: the step's own; 124 after SECONDS; 75 when another step is still at work.
set -eu
umask 022
kind=$1 account=$2 seconds=$3 stamp=$4 digest=$5
shift 5
here=$(dirname "$0")

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n -- "$@"; fi
}

# The time limit counts inside the guest: a lost connection does not leave the step running for ever.
# 9>&- : a service that the step starts must not hold the lock.
run() {
  if [ "$account" = root ]; then
    as_root timeout -k 10 "$seconds" env "HOME=$HOME" "$@" </dev/null 9>&-
  else
    timeout -k 10 "$seconds" "$@" </dev/null 9>&-
  fi
}

# A vmkit that was killed may have left its step at work; two at once would spoil each other.
exec 9>"$here/lock"
if command -v flock >/dev/null && ! flock -w 30 9; then
  echo "an earlier step is still at work in this guest; try again when it has ended" >&2
  exit 75
fi

cat >"$here/payload"
# From here on the old stamp would lie, should the step stop half-way.
[ ! -e "$stamp" ] || as_root rm -f -- "$stamp"

case $kind in
script)
  run env "$@" sh "$here/payload"
  ;;
file)
  # shellcheck disable=SC2016  # expanded by the inner shell
  run sh -c '
    set -eu
    mkdir -p -- "$(dirname "$1")"
    install -m "$2" -- "$3" "$1.vmkit-new"
    mv -f -- "$1.vmkit-new" "$1"
  ' sh "$1" "$2" "$here/payload"
  ;;
esac

# The step's files reach the disk before its stamp can: a power loss must not leave a stamp without its effect.
sync
# shellcheck disable=SC2016
as_root sh -c '
  set -eu
  mkdir -p -- "$(dirname "$1")"
  printf "%s\n" "$2" >"$1.new"
  mv -f -- "$1.new" "$1"
' sh "$stamp" "$digest"
