# Takes out of a guest what makes it this one: identity, keys, logins, histories, logs. What stays boots as a new machine.
# By hand, as root, in a copy: sh clean.sh; VMKIT_ROOT=FOLDER cleans a tree that is not running. Packages, recipes' stamps,
# settings and the users' other files stay. Nothing is asked: who still needs the guest as it was has a copy of it.
set -eu
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=${VMKIT_ROOT:-}

# gone PATH…: remove files and folders. A file that a program holds open keeps its blocks until that ends, so it is
# emptied first.
gone() {
  for path; do
    if [ -f "$path" ] && [ ! -L "$path" ]; then : >"$path"; fi
    if [ -e "$path" ] || [ -L "$path" ]; then rm -rf -- "$path"; fi
  done
}

# inside FOLDER…: remove what is in them, not them.
inside() {
  for folder; do
    [ -d "$folder" ] && [ ! -L "$folder" ] || continue
    find "$folder" -xdev -mindepth 1 -type f -links 1 -exec sh -c 'for file; do : >"$file"; done' sh {} +
    find "$folder" -xdev -mindepth 1 -delete 2>/dev/null || :
  done
}

# What holds logs open, or would write them again.
if [ -z "$root" ]; then
  for unit in rsyslog.service cron.service unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer; do
    systemctl stop --quiet "$unit" 2>/dev/null || :
  done
fi

# Users: every home folder there is.
cut -d: -f6 "$root/etc/passwd" | sort -u | while read -r home; do
  case $home in
  /root | /home/*) home=$root$home ;;
  *) continue ;;
  esac
  [ -d "$home" ] || continue

  # Keys and who may log in; the seed makes the folder anew.
  gone "$home/.ssh" "$home/.gnupg/private-keys-v1.d"

  # Logins: Kiro, Amazon Q, AWS, git and its hosts, registries.
  inside "$home/.local/share/kiro-cli" # it may be where the login's disk is mounted
  gone "$home/.local/share/amazon-q" "$home/.aws/sso" "$home/.aws/cli" "$home/.aws/credentials" "$home/.aws/amazonq" \
    "$home/.kiro/sessions" "$home/.kiro/logs" "$home/.kiro/.cli_bash_history"
  inside "$home/.local/share/containers/storage/volumes/vmkit-kiro-settings/_data" # the container's ~/.kiro
  gone "$home/.git-credentials" "$home/.config/git/credentials" "$home/.netrc" "$home/.config/gh/hosts.yml" \
    "$home/.config/glab-cli" "$home/.docker/config.json" "$home/.config/containers/auth.json" "$home/.config/gcloud" \
    "$home/.azure" "$home/.kube/config" "$home/.pypirc" "$home/.local/share/keyrings" "$home/.password-store"

  # What was typed, opened and thrown away.
  for file in "$home"/.*_history "$home"/.*history "$home"/.lesshst "$home"/.viminfo "$home"/.wget-hsts \
    "$home"/.sudo_as_admin_successful "$home"/.Xauthority "$home"/.ICEauthority; do
    gone "$file"
  done
  gone "$home/.local/state/less" "$home/.local/state/bash" "$home/.local/state/python_history" "$home/.local/share/fish" \
    "$home/.local/share/Trash" "$home/.local/share/recently-used.xbel" "$home/.mozilla" "$home/.config/chromium" \
    "$home/.config/google-chrome"
  inside "$home/.cache"
done

# What vmkit knows of this machine. The stamps of recipes stay: what they did is in the image.
gone "$root/var/lib/vmkit/instance-id" "$root/var/lib/vmkit/disk-sectors" "$root/var/lib/vmkit/closed-network"

# The system's identity. An empty machine-id is filled at the first boot; a missing one is taken for an unfinished install.
[ ! -e "$root/etc/machine-id" ] || : >"$root/etc/machine-id"
[ -L "$root/var/lib/dbus/machine-id" ] || gone "$root/var/lib/dbus/machine-id"
gone "$root"/etc/ssh/ssh_host_* "$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret"
if [ -f "$root/etc/hostname" ]; then echo localhost >"$root/etc/hostname"; fi
if [ -f "$root/etc/hosts" ]; then
  printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
fi
gone "$root/etc/udev/rules.d/70-persistent-net.rules" "$root"/etc/netplan/50-cloud-init.yaml \
  "$root"/etc/network/interfaces.d/50-cloud-init "$root"/etc/sudoers.d/90-cloud-init-users
if [ -z "$root" ] && command -v cloud-init >/dev/null; then cloud-init clean --logs --seed >/dev/null 2>&1 || :; fi
inside "$root/var/lib/cloud"

# Leases and other state of the network, of timers, of services.
inside "$root/var/lib/dhcp" "$root/var/lib/dhcpcd" "$root/var/lib/NetworkManager" "$root/var/lib/systemd/network" \
  "$root/var/lib/systemd/timers" "$root/var/lib/systemd/coredump" "$root/var/lib/sudo" "$root/var/crash"

# Logs: current ones stay as empty files with their owners, old ones go.
inside "$root/var/log/journal" "$root/var/log/installer"
if [ -d "$root/var/log" ]; then
  find "$root/var/log" -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.old' -o -name '*.[0-9]' \) -delete
  find "$root/var/log" -xdev -type f -exec sh -c 'for file; do : >"$file"; done' sh {} +
fi
inside "$root/var/mail" "$root/var/spool/mail" "$root/tmp" "$root/var/tmp"

# apt's lists and archives; the folders that apt expects stay.
if [ -d "$root/var/lib/apt/lists" ]; then find "$root/var/lib/apt/lists" -xdev -type f -delete; fi
if [ -d "$root/var/cache/apt" ]; then find "$root/var/cache/apt" -xdev -type f -delete; fi
inside "$root/var/cache/ldconfig"
