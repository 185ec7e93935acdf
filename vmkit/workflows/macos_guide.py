"""What a person does for a macOS guest, in words: UTM's one dialog, and the first boot. Unverified on a Mac."""

from pathlib import Path

from vmkit.machines.model import Machine
from vmkit.workflows.adopt import HOST_KEY_FILE, paste_command


def install_steps(machine: Machine, restore_image: Path | None) -> tuple[str, ...]:
    """Return how macOS is installed in UTM's window, for a machine that UTM has and whose disk is empty."""
    image = (
        f"choose the restore image {restore_image} (in the file dialog, Shift-Command-G takes a path)"
        if restore_image
        else "choose a restore image: the newest .ipsw for VirtualMac2,1, which you download from Apple first"
    )
    return (
        f'Install macOS in UTM: "{machine.name}" is there, with an empty disk.',
        f"1. In UTM, select {machine.name} and open its settings (the Edit button).",
        f"2. Under Boot, beside IPSW Install Image, press Browse and {image}. Press Save.",
        f"3. Start {machine.name} with the Play button. UTM asks whether to install macOS: press OK.",
        "4. Wait. The window's subtitle shows how far it is; then the machine restarts by itself. Do not quit UTM.",
    )


def first_boot_steps(machine: Machine, public_key: str) -> tuple[str, ...]:
    """Return what is done once in the guest's own window, up to the command that makes it a machine like any other."""
    return (
        f"Set up {machine.name} in its window in UTM (once):",
        f"1. Go through the Setup Assistant. Give the account the name {machine.user}; skip the Apple account.",
        "2. System Settings > General > Sharing: turn Remote Login on.",
        "3. Open Terminal in the guest and let vmkit's key in:",
        f"   {paste_command(public_key)}",
        "4. In the same Terminal, read the fingerprint of the host key (macOS makes it when first asked):",
        f"   ssh-keyscan localhost > /dev/null 2>&1; ssh-keygen -lf {HOST_KEY_FILE}",
        "5. Back on this Mac, with the fingerprint that you read there:",
        f"   vmkit adopt {machine.name} --host-key SHA256:…",
    )
