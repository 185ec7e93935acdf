# Makes the container's image in the guest, as its user: Debian by mmdebstrap, and the Kiro CLI that is installed here.
# By hand: sh image.sh
set -eu
umask 022
lib=/usr/local/lib/vmkit/container
bin=$HOME/.local/bin
state=$HOME/.local/state/vmkit
work=$HOME/.cache/vmkit-container
base=localhost/vmkit-debian
packages=$(sed -n 's/^ARG PACKAGES="\(.*\)"$/\1/p' "$lib/Dockerfile")

# A container's users are numbers of this user's own.
mkdir -p "$state"
for kind in uid gid; do
  if ! grep -qs "^$(id -un):" "/etc/sub$kind"; then
    sudo -n usermod "--add-sub${kind}s" 100000-165535 "$(id -un)"
    : >"$state/container.sub$kind" # remove.sh takes back what was added here
  fi
done

rm -rf "$work" # left by a power loss
mkdir -p "$work/context/bin"
trap 'rm -rf "$work"' EXIT

if [ -s "${VMKIT_ASSET:-}" ]; then
  printf '%s  %s\n' "$VMKIT_ASSET_SHA256" "$VMKIT_ASSET" | sha256sum -c --status || {
    echo "the base in the guest is not the one the host made (SHA-256 differs); provision again to copy it anew" >&2
    exit 1
  }
  root=$VMKIT_ASSET
else
  root=$work/base.tar
  . /etc/os-release
  mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
  [ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
  # /tmp may lie in memory, and the image is thrown away when the power goes: nothing waits for the disk.
  sudo -n env TMPDIR=/var/tmp mmdebstrap --quiet --mode=root --variant=minbase --format=tar \
    --include="$(printf %s "$packages" | tr ' ' ,)" \
    --aptopt="Acquire::http::Proxy \"${http_proxy:-DIRECT}\"" --aptopt="Acquire::https::Proxy \"${https_proxy:-DIRECT}\"" \
    --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io --dpkgopt=path-exclude=/usr/share/doc/* \
    --dpkgopt=path-exclude=/usr/share/man/* --dpkgopt=path-exclude=/usr/share/locale/* \
    "$VERSION_CODENAME" - "${mirror:-http://deb.debian.org/debian}" >"$work/base.tar"
fi
podman import --quiet "$root" "$base"
rm -f "$work/base.tar"

cp "$lib/Dockerfile" "$lib/build.sh" "$work/context/"
for program in kiro-cli kiro-cli-chat kiro-cli-term; do
  [ ! -e "$bin/$program" ] || cp "$bin/$program" "$work/context/bin/"
done
printf '%s\n' 'set -eu' 'mkdir -p ~/.local/bin' 'cp /context/bin/* ~/.local/bin/' >"$work/context/install.sh"
echo "KIRO_ARCHIVE=none KIRO_SHA256=none" >"$work/context/image.env"
ENGINE=podman BASE=$base IMAGE=localhost/vmkit-kiro sh "$work/context/build.sh" --build-arg PACKAGES= --network=host \
  --quiet --pull=never
cp "$state/kiro-cli.version" "$state/container.version"
