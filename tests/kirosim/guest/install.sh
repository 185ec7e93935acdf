#!/bin/sh
# kirosim: a stand-in for the installer in Kiro CLI's archives; it installs a simulation, not Kiro.
#
# KIRO_CLI_SKIP_SETUP=1 (or Q_SKIP_SETUP=1): copy the programs, set nothing up.
# Q_INSTALL_GLOBAL=1: into /usr/local/bin instead of ~/.local/bin. Other arguments go to `kiro-cli setup`.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${Q_INSTALL_GLOBAL:-}" ]; then
    bin=${KIROSIM_ROOT:-}/usr/local/bin
else
    bin=$HOME/.local/bin
fi

if [ -e "$bin/kiro-cli" ]; then
    echo "Kiro CLI is already installed at $bin/kiro-cli" >&2
    printf 'Do you want to replace it? (y/N): ' >&2
    # From the terminal, whatever stdin is: without one this fails, as the real one does.
    read -r answer </dev/tty || exit 1
    case $answer in
    y | Y | yes) ;;
    *) echo '❌ Installation failed. Cleaning up...' >&2; exit 1 ;;
    esac
fi

mkdir -p "$bin"
for program in kiro-cli kiro-cli-chat kiro-cli-term q qchat; do
    cp "$here/bin/$program" "$bin/.$program.new"
    chmod 0755 "$bin/.$program.new"
    mv -f "$bin/.$program.new" "$bin/$program"
done

if [ -z "${KIRO_CLI_SKIP_SETUP:-}" ] && [ -z "${Q_SKIP_SETUP:-}" ]; then
    "$bin/kiro-cli" setup "$@"
fi
