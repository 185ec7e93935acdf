# Tells what is in a guest that matters to its safety; changes nothing, and starts as few programs as it can, each of
# which costs an emulated guest dearly. By hand, as root: sh inventory.sh | tr '\000' '\n'; VMKIT_ROOT=FOLDER looks at a
# tree that is not running. Records end with NUL, for a path may hold anything else. The content of files is told as a
# digest, but for the few whose lines are compared one by one. No -e: what cannot be read must not end it.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
cd "${VMKIT_ROOT:-/}" || exit 1
most=2000 # lines of one file, and places

# lines HEAD FILE: tell each line of a file.
lines() {
  [ -f "$2" ] && [ -r "$2" ] || return 0
  count=0
  while IFS= read -r line || [ -n "$line" ]; do
    count=$((count + 1))
    if [ "$count" -gt "$most" ]; then
      printf 'cut\000%s\000' "$2"
      break
    fi
    printf '%s\000%s\000%s\000' "$1" "$2" "$line"
  done <"$2"
}

# Whether there is a password, and since which day; not the password's hash.
passwords() {
  while IFS=: read -r name word day _; do
    case $word in
    '') state=none ;;
    '!'* | '*'*) state=locked ;;
    *) state=set ;;
    esac
    printf 'password\t%s\t%s\000%s\000' "$state" "${day:-0}" "$name"
  done <./etc/shadow
}

printf 'vmkit inventory 1\000'
lines passwd ./etc/passwd
lines group ./etc/group
if [ -r ./etc/shadow ]; then passwords; fi
lines line ./etc/environment
lines line ./etc/gitconfig

# Where to look. All begin with "./": none is taken for an option.
set -- ./etc/ld.so.preload ./etc/ld.so.conf ./etc/ld.so.conf.d ./etc/sudoers ./etc/sudoers.d ./etc/sudo.conf ./etc/ssh \
  ./etc/pam.d ./etc/pam.conf ./etc/security ./etc/systemd ./usr/lib/systemd/system ./usr/lib/systemd/user \
  ./usr/lib/systemd/system-generators ./usr/local/lib/systemd ./usr/lib/vmkit ./etc/init.d ./etc/rc.local \
  ./etc/udev/rules.d ./etc/modules ./etc/modules-load.d ./etc/modprobe.d ./etc/crontab ./etc/anacrontab ./etc/cron.d \
  ./etc/cron.hourly ./etc/cron.daily ./etc/cron.weekly ./etc/cron.monthly ./var/spool/cron ./etc/apt \
  ./usr/share/keyrings ./etc/dpkg ./etc/profile ./etc/profile.d ./etc/bash.bashrc ./etc/zsh ./etc/environment \
  ./etc/environment.d ./etc/gitconfig ./etc/xdg/autostart ./usr/local/bin ./usr/local/sbin ./usr/local/lib/vmkit
seen=
while IFS=: read -r _ _ _ _ _ home _; do
  case $home in
  / | /nonexistent | [!/]* | '') continue ;;
  esac
  case $seen in
  *:"$home":*) continue ;;
  esac
  seen="$seen:$home:"
  home=.$home
  for keys in "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2"; do
    lines key "$keys"
  done
  lines line "$home/.kiro/settings/cli.json"
  for place in "$home/.ssh/rc" "$home/.ssh/environment" "$home/.ssh/config" "$home/.profile" "$home"/.bash[_r]* \
    "$home"/.z[spl]* "$home/.inputrc" "$home/.pam_environment" "$home/.xprofile" "$home/.xsessionrc" \
    "$home/.gitconfig" "$home/.config/git" "$home/.config/fish" "$home/.config/environment.d" \
    "$home/.config/systemd" "$home/.local/share/systemd" "$home/.config/autostart" "$home/.aws/amazonq" \
    "$home/.local/bin" "$home/bin" "$home/.kiro"; do
    if [ -e "$place" ] || [ -L "$place" ]; then set -- "$@" "$place"; fi
  done
  case $home in
  ./root | ./home/*) # workspaces have Kiro's files too
    for place in "$home"/*/.kiro "$home"/*/*/.kiro; do
      if [ ! -d "$place" ]; then continue; fi
      if [ "$#" -ge "$most" ]; then
        printf 'cut\000%s\000' "$home"
        break
      fi
      set -- "$@" "$place"
    done
    ;;
  esac
done <./etc/passwd

# files PLACE…: what is there, but for host keys and what Kiro writes as it works. Nothing else is left out: a name that
# is would be the place to hide.
files() {
  find "$@" -xdev \( -path '*/.kiro/sessions' -o -path '*/.kiro/logs' -o -path '*/.kiro/.cli_bash_history' \
    -o -path './etc/ssh/ssh_host_*_key' -o -path './etc/ssh/ssh_host_*_key.pub' \) -prune \
    -o \( -type f -o -type l \) -printf 'file\t%y\t%m\t%U\t%G\t%s\000%p\000%l\000' 2>/dev/null
  find "$@" -xdev \( -path '*/.kiro/sessions' -o -path '*/.kiro/logs' -o -path './etc/ssh/ssh_host_*_key' \) -prune \
    -o -type f -size -1025k -print0 2>/dev/null | xargs -0 -r sha256sum -z -- 2>/dev/null
}
files "$@"

for stamp in ./var/lib/vmkit/steps/*; do
  [ -f "$stamp" ] || continue
  digest=
  read -r digest <"$stamp" || :
  printf 'stamp\000%s\000%s\000' "${stamp##*/}" "$digest"
done

if command -v dpkg-query >/dev/null; then
  dpkg-query --admindir="$PWD/var/lib/dpkg" -W \
    -f 'package\t${Package}\t${Architecture}\t${Version}\t${db:Status-Status}\n' 2>/dev/null | tr '\n' '\000'
fi

# Rights beyond the caller's: setuid, setgid, capabilities; one walk for all.
if command -v python3 >/dev/null; then
  find . -xdev -type f -perm /111 -print0 2>/dev/null | python3 -I -c '
import os, sys
for path in sys.stdin.buffer.read().split(b"\0")[:-1]:
    try:
        found = os.lstat(path)
        if found.st_mode & 0o6000:
            head = b"rights\t%o\t%d\t%d" % (found.st_mode & 0o7777, found.st_uid, found.st_gid)
            sys.stdout.buffer.write(head + b"\0" + path + b"\0")
        value = os.getxattr(path, "security.capability", follow_symlinks=False)
    except OSError:
        continue
    sys.stdout.buffer.write(b"capability\t" + value.hex().encode() + b"\0" + path + b"\0")
'
else
  find . -xdev -type f -perm /111 -perm /6000 -printf 'rights\t%m\t%U\t%G\000%p\000' 2>/dev/null
  printf 'cut\000capabilities (there is no python3)\000'
fi
printf 'end\000'
