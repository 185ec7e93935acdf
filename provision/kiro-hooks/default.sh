# Makes the agent with the hooks the one that `kiro-cli chat` starts with.
# By hand: sh default.sh
set -eu
exec "$HOME/.local/bin/kiro-cli" settings chat.defaultAgent vmkit
