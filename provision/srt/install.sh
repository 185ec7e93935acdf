# Installs srt and a Node.js of its own into /usr/local/lib/vmkit/srt, from the archive that the host put together.
# By hand, as root: VMKIT_ASSET=srt.tar VMKIT_ASSET_SHA256=... sh install.sh
set -eu
umask 022
target=/usr/local/lib/vmkit/srt

printf '%s  %s\n' "$VMKIT_ASSET_SHA256" "$VMKIT_ASSET" | sha256sum -c --status || {
  echo "the archive in the guest is not the one the host verified (SHA-256 differs); provision again to copy it anew" >&2
  exit 1
}

new=$target.new
rm -rf "$new"
mkdir -p "$new"
trap 'rm -rf "$new"' EXIT
tar -xf "$VMKIT_ASSET" -C "$new" --no-same-owner
mkdir -p "$new/bin"
tar -xzf "$new/node.tgz" -C "$new/bin" --no-same-owner --strip-components=2 package/bin/node
rm "$new/node.tgz"
find "$new/node_modules" -name '*.tgz' | while read -r archive; do
  mkdir "${archive%.tgz}"
  # Some packages call their folder otherwise than `package`.
  tar -xzf "$archive" -C "${archive%.tgz}" --no-same-owner --strip-components=1 --exclude='*/vendor/srt-win'
  rm "$archive"
done
cat >"$new/srt" <<'END'
#!/bin/sh
# srt, with the Node.js that came with it. From vmkit's recipe "srt".
exec /usr/local/lib/vmkit/srt/bin/node --disable-warning=UNDICI-EHPA /usr/local/lib/vmkit/srt/node_modules/@anthropic-ai/sandbox-runtime/dist/cli.js "$@"
END
chmod 755 "$new/srt"

rm -rf "$target"
mv "$new" "$target"
trap - EXIT
ln -sfn "$target/srt" /usr/local/bin/srt
srt --version
