# The way out of a closed machine, for login shells that did not get it from PAM. From vmkit.
if [ -r /usr/lib/vmkit/closed-network/environment ]; then
  while read -r vmkit_line; do
    export "$vmkit_line"
  done </usr/lib/vmkit/closed-network/environment
  unset vmkit_line
fi
