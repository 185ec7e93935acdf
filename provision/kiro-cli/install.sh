# Installs Kiro CLI into ~/.local/bin from an archive (tar.gz, tar.xz, tar.zst or zip), without a question.
# By hand: VMKIT_ASSET=kirocli-x86_64-linux.tar.gz VMKIT_ASSET_SHA256=... sh install.sh
set -eu
umask 022
bin=$HOME/.local/bin
state=$HOME/.local/state/vmkit
# Beside the home folder, not in /tmp: that may be in memory, too small for what comes out.
work=$HOME/.cache/vmkit-kiro-cli

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

printf '%s  %s\n' "$VMKIT_ASSET_SHA256" "$VMKIT_ASSET" | sha256sum -c --status ||
  fail "the archive in the guest is not the one the host verified (SHA-256 differs); provision again to copy it anew"

rm -rf "$work" # left by a power loss
mkdir -p "$work/unpacked" "$work/tmp" "$bin" "$state"
chmod 700 "$work"
trap 'rm -rf "$work"' EXIT

case $(od -An -tx1 -N6 "$VMKIT_ASSET" | tr -d ' \n') in
1f8b*) tar -xzf "$VMKIT_ASSET" -C "$work/unpacked" --no-same-owner ;;
fd377a585a00) tar -xJf "$VMKIT_ASSET" -C "$work/unpacked" --no-same-owner ;;
28b52ffd*) tar --zstd -xf "$VMKIT_ASSET" -C "$work/unpacked" --no-same-owner ;;
504b0304*) unzip -q "$VMKIT_ASSET" -d "$work/unpacked" ;;
*) fail "the archive is neither tar.gz, tar.xz, tar.zst nor zip" ;;
esac

installer=
for candidate in "$work/unpacked/kirocli/install.sh" "$work/unpacked"/*/install.sh "$work/unpacked/install.sh"; do
  if [ -z "$installer" ] && [ -f "$candidate" ]; then installer=$candidate; fi
done
[ -n "$installer" ] || fail "the archive holds no install.sh"

# The installer asks on /dev/tty before it replaces a version, and a running program cannot be overwritten.
rm -f "$bin/kiro-cli" "$bin/kiro-cli-chat" "$bin/kiro-cli-term" "$state/kiro-cli.version"

chmod u+x "$installer"
(cd "$(dirname "$installer")" && TMPDIR=$work/tmp KIRO_CLI_SKIP_SETUP=1 ./install.sh </dev/null)

# Both: the launcher starts without the libraries that the chat needs.
for program in kiro-cli kiro-cli-chat; do
  [ -x "$bin/$program" ] || fail "the installer ended well but left no $bin/$program"
  if ! "$bin/$program" --version </dev/null >>"$work/version" 2>"$work/complaint"; then
    cat "$work/complaint" >&2
    case $(cat "$work/complaint") in
    *libasound*) fail "$program needs the ALSA library: apt-get install libasound2t64 (or libasound2)" ;;
    *GLIBC_* | *GLIBCXX_*) fail "$program was built for a newer C library than this guest has; the musl build would run" ;;
    *) fail "$program does not start" ;;
    esac
  fi
done
cat "$work/version"
mv -f "$work/version" "$state/kiro-cli.version"
