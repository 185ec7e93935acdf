# Closes the disk on which Kiro's login lies and fills it with zeros; the host has destroyed its key.
# By hand, as root: sh wipe.sh USER. Exits with 47 when the disk is still in use: then it is closed at the next stop.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export DM_DISABLE_UDEV=1
name=vmkit-login

exec 9>"/run/$name.lock"
flock 9
while IFS=: read -r login _ _ _ _ home _; do
  [ "$login" = "$1" ] && break
done </etc/passwd
place=$home/.local/share/kiro-cli
while read -r _ where _; do
  if [ "$where" = "$place" ]; then umount "$place" 2>/dev/null || umount -l "$place"; fi
done </proc/mounts
busy=
if [ -e "/dev/mapper/$name" ]; then
  cryptsetup close "$name" 2>/dev/null || busy=yes
fi
for file in /sys/block/*/serial; do
  serial=
  read -r serial <"$file" 2>/dev/null || :
  if [ "$serial" = login ]; then
    disk=${file%/serial}
    read -r sectors <"$disk/size"
    dd if=/dev/zero of="/dev/${disk##*/}" bs=1M count="$((sectors / 2048))" conv=fsync 2>/dev/null
  fi
done
[ -z "$busy" ] || exit 47
