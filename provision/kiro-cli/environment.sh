# Turns Kiro CLI's auto-update off in sessions that read no profile, in /etc/environment.
# By hand, as root: sh environment.sh
set -eu
file=/etc/environment

touch "$file"
{
  grep -v '^KIRO_NO_AUTO_UPDATE=' "$file" || :
  echo KIRO_NO_AUTO_UPDATE=1
} >"$file.vmkit-new"
chmod 644 "$file.vmkit-new"
mv -f "$file.vmkit-new" "$file"
