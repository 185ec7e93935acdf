# Takes the container out of the guest: its image and what podman keeps, unless podman was there before. As root.
set -eu
as_user() { # with podman's own idea of where things are
  runuser -u "$VMKIT_USER" -- env "HOME=$VMKIT_HOME" "$@"
}
cd /
if command -v podman >/dev/null; then
  if grep -qsx podman "$VMKIT_RECORDS/container.tools"; then
    as_user podman system reset --force >/dev/null 2>&1 || :
    # Its files belong to the numbers that the user's containers have.
    rm -rf "$VMKIT_HOME/.local/share/containers" "$VMKIT_HOME/.config/containers" "$VMKIT_HOME/.cache/containers"
    rm -rf "/run/user/$(id -u "$VMKIT_USER")/containers" "/tmp/storage-run-$(id -u "$VMKIT_USER")" \
      "/tmp/podman-run-$(id -u "$VMKIT_USER")" "/tmp/containers-user-$(id -u "$VMKIT_USER")"
  else
    as_user podman image rm --force localhost/vmkit-kiro localhost/vmkit-debian >/dev/null 2>&1 || :
  fi
fi
for kind in uid gid; do
  if [ -f "$VMKIT_HOME/.local/state/vmkit/container.sub$kind" ]; then
    sed -i "/^$VMKIT_USER:100000:65536\$/d" "/etc/sub$kind"
  fi
done
rm -rf "$VMKIT_HOME/.local/state/vmkit"/container.* "$VMKIT_HOME/.cache/vmkit-container"
