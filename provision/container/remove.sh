# Takes the container out of the guest: its image and what podman keeps, unless podman was there before. As root.
set -eu
as_user() { # with the settings that it ran with
  runuser -u "$VMKIT_USER" -- env "HOME=$VMKIT_HOME" \
    sh -c '. /usr/local/lib/vmkit/container/run.env && exec "$@"' sh "$@"
}
cd /
if command -v podman >/dev/null; then
  if grep -qsx podman "$VMKIT_RECORDS/container.tools"; then
    as_user podman system reset --force >/dev/null 2>&1 || :
    # Its files belong to the numbers that the user's containers have.
    rm -rf "$VMKIT_HOME/.local/share/containers" "$VMKIT_HOME/.config/containers" "$VMKIT_HOME/.cache/containers"
    rm -rf "/run/user/$(id -u "$VMKIT_USER")/containers" /dev/shm/vmkit-container
  else
    as_user podman volume rm --force vmkit-kiro-settings >/dev/null 2>&1 || :
  fi
fi
for kind in uid gid; do
  added=$VMKIT_HOME/.local/state/vmkit/container.sub$kind
  if [ -f "$added" ]; then
    sed -i "/^$VMKIT_USER:100000:65536\$/d" "/etc/sub$kind"
    ! grep -qx new "$added" || rm -f "/etc/sub$kind-" # usermod's copy of the file
  fi
done
rm -rf "$VMKIT_HOME/.local/state/vmkit"/container.* "$VMKIT_HOME/.cache/vmkit-container" \
  "$VMKIT_HOME/.local/share/vmkit-container"
