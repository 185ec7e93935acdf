# Turns Kiro CLI's auto-update off for this user, whatever the environment says.
# By hand: sh settings.sh
set -eu
exec "$HOME/.local/bin/kiro-cli" settings app.disableAutoupdates true
