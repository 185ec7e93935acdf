# Ends a guest that has been cleaned so that nothing is written to its disk any more: swap is emptied, free blocks are
# given back, and the disk is made read-only. A shutdown would write logs and a seed of randomness again.
# By hand, as root: sh finish.sh. Afterwards the machine can only be switched off. Exits with 48 when the disk stays
# writable.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

tail -n +2 /proc/swaps | while read -r area kind kib _; do
  case $area in
  /dev/zram*) continue ;;
  esac
  identity=$(blkid -p -s UUID -o value "$area" || :)
  swapoff "$area" || exit 48
  # Its size in /proc/swaps lacks the first page, which mkswap writes.
  dd if=/dev/zero of="$area" bs=1024 count="$kib" conv=notrunc,fsync 2>/dev/null
  mkswap ${identity:+-U "$identity"} "$area" >/dev/null
done

sync
fstrim --all --quiet-unsupported 2>/dev/null || fstrim / || : # the host empties what is left
echo 1 >/proc/sys/kernel/sysrq
echo s >/proc/sysrq-trigger
echo u >/proc/sysrq-trigger
tries=0
while [ "$tries" -lt 240 ]; do
  while read -r _ where _ options _; do
    if [ "$where" = / ]; then
      case $options in
      ro | ro,*)
        echo sealed
        exit 0
        ;;
      esac
    fi
  done </proc/mounts
  tries=$((tries + 1))
  sleep 0.5
done
exit 48
