# Kiro's preToolUse hook: logs the call that comes on standard input, and blocks it (exit 2) when `deny` names it.
# By hand: echo '{"tool_name":"execute_bash","tool_input":{"command":"rm -rf /"}}' | sh check.sh; echo $?
set -u
umask 077
here=$(dirname "$0")
log=${XDG_STATE_HOME:-$HOME/.local/state}/vmkit/kiro-hooks.jsonl
event=$(mktemp) || exit 2
trap 'rm -f "$event"' EXIT

refuse() {
  printf 'blocked by a hook of this machine: %s\n' "$1" >&2
  exit 2
}

# What a tool is told to run or to touch, whatever the tool calls it; each string on lines of its own.
told='.tool_input // {} | .. | objects | .command, .path, .file_path, .cwd, .url | strings'
# Long strings are cut: a log is to be read.
line='walk(if type == "string" and length > 2000 then .[:2000] + "…" else . end)
  | {time: (now | todate), decision: $decision, cwd, tool_name, tool_input}'

record() {
  mkdir -p "$(dirname "$log")"
  [ "$(stat -c %s "$log" 2>/dev/null || echo 0)" -lt 16777216 ] || mv -f "$log" "$log.1"
  jq -c --arg decision "$1" "$line" "$event" >>"$log"
}

cat >"$event"
strings=$(jq -rs "if length == 1 then .[0] else error end | [$told] | join(\"\\n\")" "$event" 2>/dev/null) ||
  refuse "the call could not be read"

while IFS='|' read -r reason pattern; do
  case $reason in '' | '#'*) continue ;; esac
  printf '%s\n' "$strings" | grep -Eq -e "$pattern"
  case $? in
  0)
    record "blocked: $reason"
    refuse "$reason"
    ;;
  1) ;;
  *) refuse "the pattern for \"$reason\" cannot be read" ;;
  esac
done <"$here/deny" || refuse "there is no list of what to block"
record allowed
