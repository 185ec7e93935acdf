# Makes the container's image in the guest, as its user: Debian packages unpacked in a folder, and the Kiro CLI that is
# installed here. No engine imports it: podman runs the folder as it is (--rootfs). By hand: sh image.sh
set -eu
umask 022
lib=/usr/local/lib/vmkit/container
bin=$HOME/.local/bin
state=$HOME/.local/state/vmkit
work=$HOME/.cache/vmkit-container
. "$lib/run.env" # ROOTFS, SECCOMP, and podman's settings

# A container's users are numbers of this user's own.
mkdir -p "$state"
for kind in uid gid; do
  if ! grep -qs "^$(id -un):" "/etc/sub$kind"; then
    backup=there
    [ -e "/etc/sub$kind-" ] || backup=new
    sudo -n usermod "--add-sub${kind}s" 100000-165535 "$(id -un)"
    echo $backup >"$state/container.sub$kind" # remove.sh takes back what was added here
  fi
done

mkdir -p "${ROOTFS%/*}"
python3 "$lib/seccomp.py" </usr/share/containers/seccomp.json >"$SECCOMP"

# The base is unpacked once, unless the host made another one.
if [ ! -s "${VMKIT_ASSET:-}" ]; then
  made=guest
elif printf '%s  %s\n' "$VMKIT_ASSET_SHA256" "$VMKIT_ASSET" | sha256sum -c --status; then
  made=$VMKIT_ASSET_SHA256
else
  echo "the base in the guest is not the one the host made (SHA-256 differs); provision again to copy it anew" >&2
  exit 1
fi
if [ ! -d "$ROOTFS" ] || [ "$(cat "$state/container.base" 2>/dev/null)" != "$made" ]; then
  podman unshare rm -rf "$work" "$ROOTFS.new" # left by a power loss
  mkdir -p "$work" "$ROOTFS.new"
  trap 'rm -rf "$work"' EXIT
  base=${VMKIT_ASSET:-}
  if [ "$made" = guest ]; then
    base=$work/base.tar
    packages=$(sed -n 's/^ARG PACKAGES="\(.*\)"$/\1/p' "$lib/Dockerfile")
    . /etc/os-release
    mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
    [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
    # /tmp may lie in memory, and the image is thrown away when the power goes: nothing waits for the disk.
    sudo -n env TMPDIR=/var/tmp mmdebstrap --quiet --mode=root --variant=minbase --format=tar \
      --include="$(printf %s "$packages" | tr ' ' ,)" \
      --aptopt="Acquire::http::Proxy \"${http_proxy:-DIRECT}\"" --aptopt="Acquire::https::Proxy \"${https_proxy:-DIRECT}\"" \
      --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io --dpkgopt=path-exclude=/usr/share/doc/* \
      --dpkgopt=path-exclude=/usr/share/man/* --dpkgopt=path-exclude=/usr/share/locale/* \
      "$VERSION_CODENAME" - "${mirror:-http://deb.debian.org/debian}" >"$base"
  fi
  # With the users' numbers that files have in the container; the engine makes the devices.
  podman unshare tar --extract --numeric-owner --exclude='./dev/*' --file="$base" --directory="$ROOTFS.new"
  podman unshare rm -rf "$ROOTFS"
  mv "$ROOTFS.new" "$ROOTFS"
  printf '%s\n' "$made" >"$state/container.base"
fi

# What run.sh mounts has to be there: the root cannot be written to. The home folder is this user's, so is its Kiro.
home=$ROOTFS/home/agent
mkdir -p "$home/.local/bin" "$home/.local/share/kiro-cli" "$home/.local/state" "$home/.cache" "$home/.kiro"
for program in kiro-cli kiro-cli-chat kiro-cli-term; do
  [ ! -e "$bin/$program" ] || cp "$bin/$program" "$home/.local/bin/"
done
cp "$state/kiro-cli.version" "$state/container.version"
