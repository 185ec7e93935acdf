# Installs VMKIT_PACKAGES (words; `a|b` takes the first that the archive has) without a question, as root.
# The file VMKIT_RECORD gets the names of all that came with them: remove.sh reads it.
set -eu
export DEBIAN_FRONTEND=noninteractive

apt() {
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

dpkg --configure -a # what a power loss interrupted
apt update

set --
for wanted in $VMKIT_PACKAGES; do
  chosen=
  for name in $(printf '%s' "$wanted" | tr '|' ' '); do
    if [ -z "$chosen" ] && apt-cache show -- "$name" >/dev/null 2>&1; then chosen=$name; fi
  done
  if [ -z "$chosen" ]; then
    echo "the package archive of this guest has no \"$wanted\"" >&2
    exit 1
  fi
  set -- "$@" "$chosen"
done

if [ -n "${VMKIT_RECORD:-}" ]; then
  mkdir -p "${VMKIT_RECORD%/*}"
  # What would come, noted before it does: a power loss must not leave packages that nobody knows of.
  apt-get -q -s install --no-install-recommends -- "$@" | sed -n 's/^Inst \([^ ]*\) .*/\1/p' >>"$VMKIT_RECORD"
fi
apt install --no-install-recommends -- "$@"
