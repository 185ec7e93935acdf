"""UTM's verdict, measured on 97 files, and what follows from its decoder's rules for others of the same kinds."""

import copy
import csv
import json
import os
import plistlib
import random
from pathlib import Path
from typing import Any

import pytest

from vmkit.bundle.check import Verdict, check, judge
from vmkit.errors import NotFound

DATA = Path(__file__).parents[2] / "data"
VERDICTS = {
    row["name"]: row
    for row in csv.DictReader((DATA / "utm-verdicts" / "verdicts.tsv").read_text().splitlines(), delimiter="\t")
}
SAMPLES = {file.stem: plistlib.loads(file.read_bytes()) for file in (DATA / "utm-samples").glob("*.plist")}


def words(verdict: Verdict) -> list[str]:
    """Say a verdict as verdicts.tsv does."""
    return [
        *(f"changed: {found.path} {found.before!r}->{found.after!r}" for found in verdict.changed),
        *(f"default: {path}={value}" for path, value in verdict.defaults.items()),
        *(f"ignored: {path}" for path in verdict.ignored_keys),
    ]


@pytest.mark.parametrize("name", VERDICTS)
def test_utm_s_verdict_is_given(name: str) -> None:
    expected = VERDICTS[name]

    verdict = check(DATA / "utm-verdicts" / f"{name}.plist")

    assert verdict.loads is (expected["verdict"] == "OK")
    details = (expected["detail"] or "").split("; ")
    if verdict.loads:
        assert words(verdict) == [detail for detail in details if detail.startswith(("changed", "default", "ignored"))]
    else:
        kind, _, path = details[0].partition(" at ")
        assert verdict.problems[0].problem.startswith(kind.partition(":")[0])
        assert verdict.problems[0].path == path


def changed(sample: str, path: str, value: object) -> Verdict:
    """Judge a sample in which the value at `path` is another, or missing when it is None."""
    plist: Any = copy.deepcopy(SAMPLES[sample])
    place = plist
    *way, last = path.replace("[", ".#").replace("]", "").split(".")
    for step in way:
        place = place[int(step[1:])] if step.startswith("#") else place[step]
    if value is None:
        del place[last]
    else:
        place[int(last[1:]) if last.startswith("#") else last] = value
    return judge(plistlib.dumps(plist))


@pytest.mark.parametrize(
    ("path", "value", "problem", "at"),
    [
        ("Information", None, "keyNotFound", "Information"),
        ("Display[0].NativeResolution", None, "keyNotFound", "Display[0].NativeResolution"),
        ("Network[1].IsolateFromHost", None, "keyNotFound", "Network[1].IsolateFromHost"),
        ("System.JITCacheSize", None, "keyNotFound", "System.JITCacheSize"),
        ("System.CPUFlagsAdd", "sve", "typeMismatch(Array<Any>)", "System.CPUFlagsAdd"),
        ("System.CPUFlagsRemove", ["a", 1], "typeMismatch(String)", "System.CPUFlagsRemove[1]"),
        ("System", [], "typeMismatch(Dictionary<String, Any>)", "System"),
        ("Drive", {}, "typeMismatch(Array<Any>)", "Drive"),
        ("Drive[1]", "x", "typeMismatch(Dictionary<String, Any>)", "Drive[1]"),
        ("Drive[2].InterfaceVersion", "1", "typeMismatch(Int)", "Drive[2].InterfaceVersion"),
        ("Drive[2].InterfaceVersion", True, "typeMismatch(Int)", "Drive[2].InterfaceVersion"),
        ("Drive[0].ReadOnly", 0, "typeMismatch(Bool)", "Drive[0].ReadOnly"),
        ("System.MemorySize", 4.5, "dataCorrupted", "System.MemorySize"),
        ("System.Architecture", "X86_64", "UTMConfigurationError.invalidConfigurationValue", "System.Architecture"),
        ("System.Target", "q35", "UTMConfigurationError.invalidConfigurationValue", "System.Target"),
        ("Display[0].UpscalingFilter", "linear", "UTMConfigurationError", "Display[0].UpscalingFilter"),
        ("Serial[3].Mode", "Pty", "UTMConfigurationError.invalidConfigurationValue", "Serial[3].Mode"),
        ("Information.UUID", "{6F9619FF-8B86-4D01-B42D-00CF4FC964FF}", "dataCorrupted", "Information.UUID"),
        ("Backend", "Qemu", "dataCorrupted", "Backend"),
        ("Backend", 1, "typeMismatch(String)", "Backend"),
        ("Sound[0].Hardware", b"x", "typeMismatch(String)", "Sound[0].Hardware"),
        # After an error of Codable's own, UTM tries the small letters of UTM before 4.4, and reports those.
        ("Network[0].PortForward[0].HostPort", "x", "keyNotFound", "Network[0].PortForward[0].protocol"),
        ("Network[0].PortForward[0].Protocol", "Tcp", "UTMConfigurationError", "Network[0].PortForward[0].Protocol"),
    ],
)
def test_the_first_error_of_a_qemu_file_is_named(path: str, value: object, problem: str, at: str) -> None:
    verdict = changed("qemu-full", path, value)

    assert not verdict.loads
    assert verdict.problems[0].problem.startswith(problem)
    assert verdict.problems[0].path == at


@pytest.mark.parametrize(
    ("sample", "path", "value", "at"),
    [
        ("apple-linux-uefi", "System.Boot", None, "System.Boot"),
        ("apple-linux-uefi", "System.Boot.OperatingSystem", "linux", "System.Boot.OperatingSystem"),
        ("apple-linux-uefi", "Virtualization.Pointer", 1, "Virtualization.Pointer"),
        ("apple-linux-uefi", "Drive[1].Nvme", 1, "Drive[1].Nvme"),
        ("apple-linux-uefi", "Drive[1].Bookmark", "x", "Drive[1].Bookmark"),
        ("apple-linux-uefi", "SharedDirectory", [{"ReadOnly": True}], "SharedDirectory[0].Bookmark"),
        ("apple-linux-kernel", "Display[0].WidthPixels", "1", "Display[0].WidthPixels"),
        ("apple-macos", "System.MacPlatform.AuxiliaryStoragePath", 1, "System.MacPlatform.AuxiliaryStoragePath"),
    ],
)
def test_the_first_error_of_an_apple_file_is_named(sample: str, path: str, value: object, at: str) -> None:
    assert changed(sample, path, value).problems[0].path == at


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("System.CPU", "host", []),
        ("System.CPU", "no-such-cpu", ["changed: System.CPU 'no-such-cpu'->'default'"]),
        ("System.CPUCount", 4.0, ["changed: System.CPUCount 4.0->4"]),
        ("System.Target", "virt-2.6", []),
        ("System.Target", "virt-10.0", []),
        ("System.Target", "vmapple", []),
        ("Serial[0].Terminal.CursorBlink", None, ["default: Serial[0].Terminal.CursorBlink=True"]),
        ("Network[0].Hardware", "anything", []),
        ("Drive[0].ImageName", "a/b/c.qcow2/", ["changed: Drive[0].ImageName 'a/b/c.qcow2/'->'c.qcow2'"]),
        ("Extra", [{"a": {"b": 1}}], ["ignored: Extra", "ignored: Extra[0].a", "ignored: Extra[0].a.b"]),
        (
            "Network[0].PortForward[0]",
            {"protocol": "UDP", "hostPort": 1, "guestPort": 2},
            [],
        ),
    ],
)
def test_what_utm_makes_of_a_file_that_loads_is_said(path: str, value: object, said: list[str]) -> None:
    verdict = changed("qemu-full", path, value)

    assert verdict.loads
    assert words(verdict) == said


@pytest.mark.parametrize(
    ("architecture", "known", "unknown"),
    [
        (
            "x86_64",
            ("q35", "pc", "isapc", "microvm", "none", "pc-q35-2.4", "pc-q35-4.0.1", "pc-i440fx-10.0"),
            "pc-q35-2.3",
        ),
        ("i386", ("q35", "pc-i440fx-2.4"), "virt"),
        ("arm", ("virt", "raspi2b", "virt-2.6"), "raspi3b"),
        ("riscv64", ("virt", "sifive_u", "spike"), "virt-10.0"),
        ("ppc64", ("pseries-10.0", "mac99"), "pseries-2.12"),
        ("s390x", ("s390-ccw-virtio-2.9",), "s390-ccw-virtio-2.8"),
        ("m68k", ("mcf5208evb", "q800", "virt-6.0"), "virt-5.2"),
        ("loongarch64", ("virt",), "virt-9.0"),
    ],
)
def test_machine_types_are_those_of_the_architecture(architecture: str, known: tuple[str, ...], unknown: str) -> None:
    plist = copy.deepcopy(SAMPLES["qemu-full"])
    plist["System"] |= {"Architecture": architecture}

    def loads(target: str) -> bool:
        plist["System"]["Target"] = target
        return judge(plistlib.dumps(plist)).loads

    assert all(loads(target) for target in known)
    assert not loads(unknown)


def test_the_first_error_in_utm_s_order_wins() -> None:
    plist = copy.deepcopy(SAMPLES["qemu-full"])
    del plist["Sound"]
    del plist["System"]["MemorySize"]
    plist["System"]["CPUCount"] = "4"
    plist["Drive"] = 1

    assert judge(plistlib.dumps(plist)).problems[0].path == "System.CPUCount"


def test_a_malformed_number_in_an_ignored_key_does_no_harm() -> None:
    content = (DATA / "utm-samples" / "qemu-full.plist").read_bytes()
    content = content.replace(b"<dict>", b"<dict><key>Extra</key><integer>x y</integer>", 1)

    assert judge(content).loads


@pytest.mark.parametrize("sample", sorted(SAMPLES))
@pytest.mark.parametrize("form", ["binary", "utf-16"])
def test_every_form_of_a_file_gets_the_same_verdict(sample: str, form: str) -> None:
    plist = SAMPLES[sample]
    content = plistlib.dumps(plist, fmt=plistlib.FMT_BINARY if form == "binary" else plistlib.FMT_XML)
    content = content if form == "binary" else content.decode().encode("utf-16")

    assert judge(content) == judge(plistlib.dumps(plist))
    assert judge(content).loads


def test_the_json_is_the_contract_s() -> None:
    verdict = check(DATA / "utm-verdicts" / "identifier-missing.plist")

    assert json.loads(json.dumps(verdict.to_json())) == {
        "schema": 1,
        "loads": False,
        "backend": "QEMU",
        "problems": [{"path": "Drive[0].Identifier", "problem": "keyNotFound"}],
        "ignored_keys": [],
        "defaults": [],
        "default_values": {},
        "changed": [],
    }


def test_a_bundle_is_judged_by_its_config_plist(tmp_path: Path) -> None:
    bundle = tmp_path / "x.utm"
    bundle.mkdir()
    (bundle / "config.plist").write_bytes((DATA / "utm-samples" / "apple-macos.plist").read_bytes())

    verdict = check(bundle)

    assert verdict.loads
    assert verdict.backend == "Apple"


@pytest.mark.parametrize("path", ["missing", "empty.utm", "a\0b", "fifo"])
def test_what_cannot_be_read_is_not_found(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty.utm").mkdir()
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(NotFound):
        check(tmp_path / path)


def test_mutated_files_are_judged_and_never_crash() -> None:
    chosen = random.Random(20)
    contents = [file.read_bytes() for file in sorted((DATA / "utm-samples").glob("*.plist"))]
    contents += [plistlib.dumps(plist, fmt=plistlib.FMT_BINARY) for plist in SAMPLES.values()]

    for number in range(1500):
        content = bytearray(contents[number % len(contents)])
        for _ in range(chosen.randint(1, 6)):
            start = chosen.randrange(len(content))
            end = min(len(content), start + chosen.choice([0, 1, 1, 8, 60]))
            content[start:end] = chosen.choice(
                [
                    b"",
                    chosen.randbytes(3),
                    bytes(content[end : end + 80]),
                    b"<array>",
                    b"</dict>",
                    b"<integer>9</integer>",
                ]
            )
        verdict = judge(bytes(content))
        assert verdict.loads or verdict.problems
        json.dumps(verdict.to_json())
