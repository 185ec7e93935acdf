# Puts ~/.local/bin on the PATH of sessions that read no profile (`vmkit exec NAME -- kiro-cli`), in /etc/environment.
# By hand, as root: VMKIT_HOME=/home/agent sh environment.sh
set -eu
file=/etc/environment
standard=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

touch "$file"
path=$(sed -n 's/^PATH="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$file" | tail -n 1)
case ":${path:=$standard}:" in
*":$VMKIT_HOME/.local/bin:"*) ;;
*) path=$VMKIT_HOME/.local/bin:$path ;;
esac
{
  grep -v '^PATH=' "$file" || :
  printf 'PATH="%s"\n' "$path"
} >"$file.vmkit-new"
chmod 644 "$file.vmkit-new"
mv -f "$file.vmkit-new" "$file"
