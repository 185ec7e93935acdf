# Takes srt out of the guest: its programs, the settings of the last session, what it keeps in /tmp. As root.
set -eu
if [ -L /usr/local/bin/srt ] && [ "$(readlink /usr/local/bin/srt)" = /usr/local/lib/vmkit/srt/srt ]; then
  rm -f /usr/local/bin/srt
fi
rm -rf /usr/local/lib/vmkit/srt /usr/local/lib/vmkit/srt.new /run/vmkit/srt /tmp/claude
rmdir /usr/local/lib/vmkit /run/vmkit 2>/dev/null || :
