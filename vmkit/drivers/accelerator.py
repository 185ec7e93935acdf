"""Choose KVM or HVF when a self-test proves that it runs guests, else QEMU's own emulation (TCG).

A device node that exists proves nothing: a nested or half-supported KVM opens, takes a guest, and hangs it. So the real
QEMU runs a tiny program with that accelerator and has to see it end. The verdict is kept until this computer restarts,
or QEMU or the device node changes.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vmkit.drivers.qemu_args import Accelerator
from vmkit.errors import HostLacks, Refused, TimedOut
from vmkit.host.computer import boot_id, is_macos, machine_arch
from vmkit.host.files import Lock, own_directory, read_bounded, write_atomically
from vmkit.host.process import Completed, Runner
from vmkit.host.text import printable_lines

SELF_TEST_S = 3.0
PASSED = "it passed its self-test"
KVM = Path("/dev/kvm")

_CACHE_NAME = "accelerator.json"
_OPTIONS = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "32")

# A boot sector: it waits for a timer interrupt, enters 64-bit mode with paging, counts to 100 million, and exits.
# A KVM that interprets instructions instead of running them may pass the first part and never ends the last.
_X86_64_CODE = bytes.fromhex(
    "fa 31c0 8ed8 8ec0 8ed0 bc007c"  # cli; xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax; mov sp,0x7c00
    "8b1e6c04 fb"  # mov bx,[0x46c] (where the BIOS counts timer interrupts); sti
    "f4 3b1e6c04 74f9 fa fc"  # wait: hlt; cmp bx,[0x46c]; je wait; cli; cld
    "bf0010 b90018 f3ab"  # mov di,0x1000; mov cx,0x1800; rep stosw (clear three page tables)
    "c70600100320 c70600200330 c70600308300"  # [0x1000]=0x2003; [0x2000]=0x3003; [0x3000]=0x83 (one 2 MiB page)
    "66b800100000 0f22d8 66b820000000 0f22e0"  # mov eax,0x1000; mov cr3,eax; mov eax,0x20 (PAE); mov cr4,eax
    "66b9800000c0 66b800010000 6631d2 0f30"  # mov ecx,0xc0000080 (EFER); mov eax,0x100 (LME); xor edx,edx; wrmsr
    "0f0116907c 66b801000080 0f22c0"  # lgdt [0x7c90]; mov eax,0x80000001 (PG, PE); mov cr0,eax
    "ea6a7c0800"  # jmp 8:0x7c6a, to 64-bit code
    "b900e1f505 ffc9 75fc"  # mov ecx,100000000; count: dec ecx; jnz count
    "b02a e6f4 f4 ebfd"  # mov al,42; out 0xf4,al (isa-debug-exit: QEMU exits with 2*42+1); halt: hlt; jmp halt
)
_X86_64_TABLES = bytes.fromhex("0000000000000000 00000000009a2000 0f00 807c0000")  # GDT at 0x7c80, its pointer 0x7c90
_X86_64 = (_X86_64_CODE.ljust(0x80, b"\0") + _X86_64_TABLES).ljust(510, b"\0") + bytes.fromhex("55aa")

# Counts to 100 million, writes K to the `virt` machine's serial port, and switches the machine off by PSCI.
_AARCH64 = bytes.fromhex(
    "0120a1d2"  # movz x1,#0x900,lsl #16 (PL011)
    "02209c52 a2bea072"  # movz w2,#0xe100; movk w2,#0x5f5,lsl #16
    "42040071 e1ffff54"  # count: subs w2,w2,#1; b.ne count
    "63098052 23000039"  # movz w3,#'K'; strb w3,[x1]
    "00018052 0080b072 020000d4 00000014"  # movz w0,#8; movk w0,#0x8400,lsl #16 (SYSTEM_OFF); hvc #0; b .
)


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """A guest program, how QEMU takes it, and how it ends when it ran."""

    program: bytes
    options: tuple[str, ...]  # `{image}` is where the program lies
    code: int
    said: bytes


_PROBES = {
    "x86_64": _Probe(
        program=_X86_64,
        options=("-M", "pc", "-drive", "if=ide,format=raw,file={image}", "-device", "isa-debug-exit,iobase=0xf4"),
        code=85,
        said=b"",
    ),
    "aarch64": _Probe(
        program=_AARCH64, options=("-M", "virt", "-serial", "stdio", "-kernel", "{image}"), code=0, said=b"K"
    ),
}


def choose_accelerator(
    arch: str, *, hypervisor_wanted: bool, binary: Path, runner: Runner, cache: Path, kvm: Path = KVM
) -> Accelerator:
    """Choose how a guest of `arch` runs; the reason is a sentence for people. Never raises for what the host lacks."""
    name: Literal["hvf", "kvm"] = "hvf" if is_macos() else "kvm"
    excuse = _excuse(arch, wanted=hypervisor_wanted, name=name, kvm=kvm)
    if excuse:
        return Accelerator("tcg", excuse)
    own_directory(cache)
    # One process tests, the others wait for its verdict: several tests at once would slow each other past the deadline.
    with Lock(cache / "accelerator.lock").acquire("testing the accelerator", wait=True):
        key = _key(arch, binary, kvm)
        verdicts = _read_verdicts(cache / _CACHE_NAME)
        if key not in verdicts:
            verdicts[key] = self_test(arch, name, binary=binary, runner=runner, folder=cache)
            write_atomically(cache / _CACHE_NAME, json.dumps({"boot": boot_id(), "verdicts": verdicts}).encode())
    reason = verdicts[key]
    return Accelerator(name if reason == PASSED else "tcg", reason)


def self_test(
    arch: str, name: str, *, binary: Path, runner: Runner, folder: Path, timeout_s: float = SELF_TEST_S
) -> str:
    """Run the test program with accelerator `name`; return `PASSED` or a sentence that says how it failed."""
    probe = _PROBES[arch]
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".self-test.") as image:
        image.write(probe.program)
        image.flush()
        path = image.name.replace(",", ",,") if arch == "x86_64" else image.name
        options = [option.format(image=path) for option in probe.options]
        cpu = "max" if name == "tcg" else "host"
        try:
            done = runner.run(
                [str(binary), "-accel", name, "-cpu", cpu, *_OPTIONS, *options], timeout_s=timeout_s, ok_codes=None
            )
        except TimedOut:
            return f"the {name.upper()} self-test did not finish within {timeout_s:g} s"
        except HostLacks as error:
            return f"the {name.upper()} self-test could not start: {error.message}"
    if done.code == probe.code and probe.said in done.stdout:
        return PASSED
    return f"the {name.upper()} self-test failed: {_last_words(done)}"


def _excuse(arch: str, *, wanted: bool, name: str, kvm: Path) -> str | None:
    if not wanted:
        return "the bundle asks for no hypervisor"
    if arch != machine_arch():
        return f"this guest is {arch}, the host {machine_arch()}"
    if arch not in _PROBES:
        return f"there is no self-test for {arch}"
    if name == "kvm" and not kvm.exists():
        return f"there is no {kvm}"
    if name == "kvm" and not os.access(kvm, os.R_OK | os.W_OK):
        return f"this user may not use {kvm}"
    return None


def _key(arch: str, binary: Path, kvm: Path) -> str:
    node = kvm.stat() if kvm.exists() else None
    permissions = (node.st_ino, node.st_mode, node.st_uid, node.st_gid) if node else ()
    return f"{arch} {binary.resolve()} {binary.stat().st_mtime_ns} {permissions} {os.geteuid()}"


def _read_verdicts(path: Path) -> dict[str, str]:
    """Return the verdicts of this boot, or none: a file that is damaged or from an earlier boot counts for nothing."""
    try:
        kept = json.loads(read_bounded(path, max_bytes=1 << 16))
        verdicts = kept["verdicts"] if kept["boot"] == boot_id() else {}
        return {str(key): str(reason) for key, reason in verdicts.items()}
    except (OSError, Refused, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _last_words(done: Completed) -> str:
    lines = printable_lines(done.stderr, max_lines=1)
    return lines[0] if lines else f"QEMU exited with {done.code}"
