# Takes a recipe out of a guest, as root: its files (the arguments), the packages that came with it and that nothing else
# needs, its stamps. VMKIT_RECIPE names it; VMKIT_RECORDS and VMKIT_STAMPS are folders. What its scripts did, its own remove script has undone before.
set -eu
export DEBIAN_FRONTEND=noninteractive

for file; do
  rm -f -- "$file"
  rmdir -- "$(dirname -- "$file")" 2>/dev/null || : # unless there is more in it
done

came=$(cat "$VMKIT_RECORDS/$VMKIT_RECIPE".* 2>/dev/null | sort -u)
if [ -n "$came" ]; then
  apt-mark -q auto $came >/dev/null
  gone=
  # What is only suggested is not needed: apt itself suggests gnupg, which came with podman.
  for name in $(apt-get -q -s -o APT::AutoRemove::SuggestsImportant=false autoremove | sed -n 's/^Remv \([^ ]*\) .*/\1/p'); do
    # Others that nothing needs are none of ours.
    if printf '%s\n' "$came" | grep -qxF -e "$name"; then gone="$gone $name"; fi
  done
  [ -z "$gone" ] || apt-get -q -y -o DPkg::Lock::Timeout=300 purge -- $gone
fi
rm -f -- "$VMKIT_RECORDS/$VMKIT_RECIPE".* "$VMKIT_STAMPS/$VMKIT_RECIPE".*
rmdir -- "$VMKIT_RECORDS" 2>/dev/null || :
