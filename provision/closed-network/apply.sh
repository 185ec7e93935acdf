# Sets a guest up for a closed network (close) or takes that back (open); once more changes nothing.
# By hand, as root: tar -C root -c . | sh apply.sh close DIGEST; sh apply.sh open. It prints "changed" when it changed
# anything. DIGEST is any word for what the archive holds: the same word, and nothing is unpacked. Not one of these
# settings is a wall; they let tools find the proxy, and let what would wait in vain fail at once.
# It starts few programs: each costs a guest under software emulation dearly. The initrd of a built image runs it with
# VMKIT_ROOT, where the guest's disk is, before the guest's own first program.
set -eu
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=${VMKIT_ROOT:-}
wanted=$1
digest=${2:-}
state=$root/var/lib/vmkit/closed-network
lib=$root/usr/lib/vmkit/closed-network
sshd_file=$root/etc/ssh/sshd_config.d/00-vmkit-closed-network.conf

# What the guest is like now.

is_own_resolv_conf() {
  first= mark=
  [ ! -L "$root/etc/resolv.conf" ] && [ -f "$root/etc/resolv.conf" ] && [ -f "$lib/resolv.conf" ] || return 1
  read -r first <"$root/etc/resolv.conf" || :
  read -r mark <"$lib/resolv.conf"
  [ "$first" = "$mark" ]
}

# A look-up would go to systemd-resolved, and from there to a name server that never answers.
resolved_units() {
  for unit in "$root"/usr/lib/systemd/system/systemd-resolved*.service "$root"/usr/lib/systemd/system/systemd-resolved*.socket; do
    if [ -e "$unit" ] && { [ "$1" = all ] || [ ! -L "$root/etc/systemd/system/${unit##*/}" ]; }; then echo "${unit##*/}"; fi
  done
}

is_closed() {
  old=
  [ ! -f "$state/digest" ] || read -r old <"$state/digest"
  [ "$old" = "$digest" ] && is_own_resolv_conf && [ -z "$(resolved_units unmasked)" ]
}

is_there() { [ -e "$1" ] || [ -L "$1" ]; } # a link that leads nowhere is there too

# What is changed.

# lines add|remove FILE LINES: have the lines of LINES at the end of FILE, or nowhere in it.
lines() {
  [ -f "$3" ] && { [ "$1" = add ] || [ -f "$2" ]; } || return 0
  {
    [ ! -f "$2" ] || grep -vxF -f "$3" "$2" || :
    [ "$1" = remove ] || cat "$3"
  } >"$2.vmkit-new"
  chmod 644 "$2.vmkit-new"
  mv -f "$2.vmkit-new" "$2"
}

systemd_environment() { # for the services started from now on; system.conf.d is read at the next boot
  [ -z "$root" ] && [ -d /run/systemd/system ] && [ -f "$lib/environment" ] || return 0
  case $1 in
  set) systemctl set-environment $(cat "$lib/environment") ;;
  unset) systemctl unset-environment $(cut -d= -f1 "$lib/environment") ;;
  esac
}

reload_sshd() { # connections that are open stay so; systemd may be busy booting, and is not waited for
  mkdir -p /run/sshd
  sshd -t || return 1
  systemctl --no-block reload ssh.service 2>/dev/null || systemctl --no-block reload sshd.service 2>/dev/null || :
}

forget() { # with the files of the vmkit that closed it, which may be another version
  rm -f "$state/digest"
  lines remove "$root/etc/environment" "$lib/environment"
  lines remove "$root/etc/gitconfig" "$lib/gitconfig"
  [ -f "$state/files" ] || return 0
  while read -r file; do
    [ ! -f "$root/$file" ] || rm -f "$root/$file"
  done <"$state/files"
}

close() {
  mkdir -p "$state"
  knows_sshd=
  if grep -qsx 'PermitListen 127.0.0.1:13128' "$root"/etc/ssh/sshd_config.d/*.conf; then knows_sshd=yes; fi
  own=
  if is_own_resolv_conf; then own=yes; fi
  forget
  tar -xv -C "$root/" -f - >"$state/files"
  lines add "$root/etc/environment" "$lib/environment"
  lines add "$root/etc/gitconfig" "$lib/gitconfig"
  systemd_environment set

  if [ -z "$own" ] && ! is_there "$state/resolv.conf" && is_there "$root/etc/resolv.conf"; then
    cp -P "$root/etc/resolv.conf" "$state/resolv.conf"
  fi
  cp "$lib/resolv.conf" "$root/etc/resolv.conf.vmkit-new"
  mv -f "$root/etc/resolv.conf.vmkit-new" "$root/etc/resolv.conf"
  units=$(resolved_units unmasked)
  if [ -n "$units" ] && [ -z "$root" ]; then
    systemctl mask --now --quiet $units
    : >"$state/resolved"
  fi

  if [ -z "$root$knows_sshd" ] && ! reload_sshd; then
    rm -f "$sshd_file" # rather no word on forwards than an sshd that does not start again
    echo "sshd does not take $sshd_file" >&2
    exit 1
  fi
  sync -f "$state"
  echo "$digest" >"$state/digest"
}

open() {
  systemd_environment unset
  own=
  if is_own_resolv_conf; then own=yes; fi
  forget
  if [ -n "$own" ]; then
    rm -f "$root/etc/resolv.conf"
    if is_there "$state/resolv.conf"; then mv -f "$state/resolv.conf" "$root/etc/resolv.conf"; fi
  fi
  if [ -f "$state/resolved" ]; then
    systemctl unmask --quiet $(resolved_units all)
    systemctl start systemd-resolved.service
  fi
  rm -rf "$state"
  rmdir "$lib" 2>/dev/null || :
  reload_sshd
}

case $wanted in
close)
  if is_closed; then exit 0; fi
  close
  ;;
open)
  if [ ! -d "$state" ]; then exit 0; fi
  open
  ;;
*)
  echo "close or open?" >&2
  exit 2
  ;;
esac
echo changed
