# Measures what a wall costs in the guest: memory of all that runs because of it, or disk. From vmkit compare.
#   sh layer_cost.sh memory FOLDER WORDS...   the words run `sleep 86399` behind the wall; prints KiB
#   sh layer_cost.sh disk RECIPE FOLDER...    the folders, and the packages that came with the recipe; prints KiB
set -eu
kind=$1
shift

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

case $kind in
memory)
  cd -- "$1"
  shift
  before=" $(echo /proc/[0-9]*) "
  "$@" >/dev/null 2>&1 </dev/null &
  wall=$!
  tries=0
  asleep=
  while [ -z "$asleep" ]; do
    # The program itself, not the walls around it, whose words have it too.
    for file in $(as_root grep -lsazx 86399 /proc/[0-9]*/cmdline || :); do
      if [ "$(cat "$file" 2>/dev/null | tr '\0' ' ')" = "sleep 86399 " ]; then asleep=${file%/cmdline}; fi
    done
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] && kill -0 "$wall" 2>/dev/null || exit 48
    sleep 1
  done
  sleep 3
  new=
  for process in /proc/[0-9]*; do
    case $before in
    *" $process "*) ;;
    *) new="$new $process" ;;
    esac
  done
  # shellcheck disable=SC2046
  as_root cat $(for one in $new; do echo "$one/smaps_rollup"; done) 2>/dev/null |
    awk '/^Pss:/ { sum += $2 } END { printf "%d\n", sum }'
  as_root kill "${asleep#/proc/}"
  wait || :
  ;;
disk)
  recipe=$1
  shift
  kib=0
  for folder; do
    if [ -e "$folder" ]; then kib=$((kib + $(as_root du -skx "$folder" | cut -f1))); fi
  done
  for name in $(cat "/var/lib/vmkit/packages/$recipe".* 2>/dev/null | sort -u); do
    size=$(dpkg-query -W -f='${Installed-Size}' "$name" 2>/dev/null || echo 0)
    kib=$((kib + ${size:-0}))
  done
  echo "$kib"
  ;;
esac
