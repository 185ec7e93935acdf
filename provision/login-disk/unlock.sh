# Opens the disk on which Kiro's login lies and mounts it where Kiro keeps that; once more changes nothing.
# By hand, as root: sh unlock.sh USER '' <KEY; "new" instead of '' when the key was made just now: then what the disk
# holds is lost, and the disk is made anew. Exits with 44 without such a disk, 45 without cryptsetup, 46 with another key,
# 47 when an earlier login is still in use. It starts few programs: each costs a guest under software emulation dearly.
set -eu
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export DM_DISABLE_UDEV=1 # right after the start there is no udev yet: do not wait for it
user=$1
key_is=$2
name=vmkit-login
mapped=/dev/mapper/$name
stage=/run/$name

IFS= read -r key
exec 9>"/run/$name.lock"
flock 9
while IFS=: read -r login _ uid gid _ home _; do
  [ "$login" = "$user" ] && break
done </etc/passwd
place=$home/.local/share/kiro-cli
while read -r _ where _; do
  [ "$where" = "$place" ] && exit 0
done </proc/mounts

disk=
for file in /sys/block/*/serial; do
  serial=
  read -r serial <"$file" 2>/dev/null || : # it ends without a newline
  if [ "$serial" = login ]; then disk=${file%/serial} disk=/dev/${disk##*/}; fi
done
[ -n "$disk" ] || exit 44
command -v cryptsetup >/dev/null || exit 45

# Left to itself, the kernel looks for faster ciphers, and tests what it finds: most of the time that opening takes.
# So the plain ones are loaded, and in our own images, where nobody else misses it, its loader is off meanwhile.
loader() { echo "$1" >/proc/sys/kernel/modprobe; }
if [ -e /usr/lib/vmkit/ready ] && modprobe -aq dm-crypt xts ecb; then
  trap 'loader /sbin/modprobe' EXIT
  loader ''
fi

open() { printf %s "$key" | cryptsetup open --type luks2 --disable-keyring --key-file=- "$disk" "$name"; }
format() { # the key is as random as a hash could make it, so few iterations do
  printf %s "$key" | cryptsetup luksFormat --batch-mode --type luks2 --key-file=- --cipher aes-xts-plain64 \
    --key-size 512 --hash sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --luks2-metadata-size 16k \
    --luks2-keyslots-size 512k "$disk" 2>/dev/null
}
make() {
  format
  open
  mkfs.ext4 -q -F -m 0 -E nodiscard -L "$name" "$mapped"
}
attach() { mount -t ext4 -o nosuid,nodev,noexec,noatime "$mapped" "$1"; }

if [ -e "$mapped" ]; then cryptsetup close "$name" || exit 47; fi # it may be of a key that is no more
if [ "$(head -c 4 "$disk" | tr -d '\0')" != LUKS ]; then
  make
elif ! said=$(open 2>&1 || { loader /sbin/modprobe && open 2>&1; }); then
  if [ "$key_is" != new ]; then
    printf '%s\n' "$said" >&2
    exit 46
  fi
  make
fi
loader /sbin/modprobe

for folder in "$home/.local" "$home/.local/share"; do
  [ -d "$folder" ] || install -d -m 755 -o "$uid" -g "$gid" "$folder"
done
[ -d "$place" ] || mkdir -m 555 "$place"
before=
for file in "$place"/* "$place"/.[!.]*; do
  if [ -e "$file" ]; then before=yes; fi
done
if ! said=$(attach "$place" 2>&1); then
  # Power was lost while it was made, or it is damaged.
  if blkid -p "$mapped" >/dev/null; then e2fsck -p "$mapped" >&2 || :; else mkfs.ext4 -q -F -m 0 -L "$name" "$mapped"; fi
  attach "$place"
fi

# lost+found says that what lay here before is not copied yet. What was copied goes from the machine's own disk, and
# while the login's disk is closed nothing can be written in its place.
if [ -d "$place/lost+found" ]; then
  if [ -n "$before" ]; then
    umount "$place"
    mkdir -p "$stage"
    attach "$stage"
    cp -a "$place/." "$stage/"
    sync -f "$stage"
    umount "$stage"
    find "$place" -type f -exec shred -u {} +
    rm -rf "$place"
    mkdir -m 555 "$place"
    attach "$place"
  fi
  chown "$uid:$gid" "$place"
  chmod 700 "$place"
  rmdir "$place/lost+found"
fi
