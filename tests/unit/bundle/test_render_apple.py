"""Rendering for the Apple backend: three cases, golden files, and nothing that says one thing to us and another to UTM."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmkit.bundle.apple_config import AppleNetworkMode, OperatingSystem
from vmkit.bundle.check import judge
from vmkit.bundle.mac_platform import machine_identifier, read_hardware_model, read_machine_identifier
from vmkit.bundle.render_apple import AppleValues, example_apple_values, render_apple
from vmkit.bundle.template import Template, load_template
from vmkit.errors import Refused, UsageError

DATA = Path(__file__).parents[2] / "data" / "plists"
NOWHERE = Path("/nonexistent/templates")
CASES = [
    ("kiro-macos", "aarch64", "macos"),
    ("kiro-apple", "aarch64", "uefi"),
    ("kiro-apple", "aarch64", "direct"),
    ("kiro-apple", "x86_64", "uefi"),
    ("kiro-apple", "x86_64", "direct"),
]


def shipped(name: str) -> Template:
    return load_template(name, user_folder=NOWHERE)


def values(boot: str = "macos", arch: str = "aarch64", **changes: object) -> AppleValues:
    template = shipped("kiro-macos" if boot == "macos" else "kiro-apple")
    return replace(example_apple_values(template, arch=arch, boot=boot), **changes)  # type: ignore[arg-type]


def templated(tmp_path: Path, config: str, parent: str = "kiro-macos") -> Template:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "template.toml").write_text(f'extends = "{parent}"\n')
    (tmp_path / "mine" / "config.plist.j2").write_text(config)
    return load_template("mine", user_folder=tmp_path)


@pytest.mark.parametrize(("name", "arch", "boot"), CASES)
def test_a_rendered_bundle_loads_in_utm_with_no_key_too_many_or_missing(name: str, arch: str, boot: str) -> None:
    template = shipped(name)

    rendered = render_apple(template, example_apple_values(template, arch=arch, boot=boot))

    verdict = judge(rendered.content)
    assert (verdict.loads, verdict.backend) == (True, "Apple")
    assert (verdict.ignored_keys, dict(verdict.defaults), verdict.changed) == ((), {}, ())


@pytest.mark.parametrize(("name", "arch", "boot"), CASES[:3])
def test_a_shipped_template_renders_its_golden_file(name: str, arch: str, boot: str) -> None:
    template = shipped(name)

    rendered = render_apple(template, example_apple_values(template, arch=arch, boot=boot))

    assert rendered.content.decode() == (DATA / f"{name}-{boot}.plist").read_text()


def test_a_mac_has_a_platform_that_can_be_decoded_a_display_and_one_disk() -> None:
    config = render_apple(shipped("kiro-macos"), values(machine_identifier=machine_identifier(77))).config

    platform = config.system.mac_platform
    assert config.system.boot.operating_system is OperatingSystem.MACOS
    assert read_machine_identifier(platform.machine_identifier) == 77
    assert read_hardware_model(platform.hardware_model).minimum_os == (13, 0, 0)
    assert platform.auxiliary_storage == "AuxiliaryStorage"
    assert (len(config.display), len(config.drive), config.system.generic_platform) == (1, 1, None)


def test_a_linux_machine_boots_the_kernel_it_was_given_and_reads_its_seed() -> None:
    config = render_apple(shipped("kiro-apple"), values("direct")).config

    boot = config.system.boot
    assert (boot.linux_kernel, boot.linux_initrd, boot.uefi_boot) == ("vmlinuz", "initrd.img", False)
    assert boot.linux_command_line == "root=LABEL=root console=hvc0 quiet"
    assert [(drive.image_name, drive.read_only) for drive in config.drive] == [
        ("11111111-2222-3333-4444-555555555555.img", False),
        ("seed.iso", True),
    ]
    assert (config.display, config.system.mac_platform) == ((), None)


def test_uefi_has_variables_and_no_kernel() -> None:
    boot = render_apple(shipped("kiro-apple"), values("uefi")).config.system.boot

    assert (boot.uefi_boot, boot.efi_variables, boot.linux_kernel, boot.linux_command_line) == (
        True,
        "efi_vars.fd",
        None,
        None,
    )


@pytest.mark.parametrize("boot", ["macos", "uefi", "direct"])
def test_a_machine_shares_nothing_but_its_network(boot: str) -> None:
    template = shipped("kiro-macos" if boot == "macos" else "kiro-apple")

    config = render_apple(template, values(boot)).config

    assert [network.mode for network in config.network] == [AppleNetworkMode.SHARED]
    devices = config.virtualization
    assert (devices.audio, devices.clipboard_sharing, devices.rosetta) == (False, False, False)
    assert config.shared_directories is None


def test_rosetta_is_there_when_it_is_asked_for() -> None:
    wanted = values("uefi")
    wanted = replace(wanted, options={**wanted.options, "rosetta": True})

    assert render_apple(shipped("kiro-apple"), wanted).config.virtualization.rosetta is True


@pytest.mark.parametrize(
    ("boot", "changes", "error"),
    [
        ("macos", {"arch": "x86_64"}, UsageError),
        ("macos", {"hardware_model": None}, UsageError),
        ("macos", {"hardware_model": b"bplist00"}, Refused),
        ("macos", {"machine_identifier": b""}, Refused),
        ("uefi", {"machine_identifier": machine_identifier(1)}, Refused),
        ("uefi", {"arch": "x86_64", "options": {"rosetta": True}}, UsageError),
        ("uefi", {"arch": "riscv64"}, UsageError),
        ("uefi", {"uuid": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"}, UsageError),
        ("uefi", {"disk_name": "../disk.img"}, UsageError),
        ("uefi", {"seed_name": "a/b"}, UsageError),
        ("uefi", {"name": "$null"}, UsageError),
        ("direct", {"kernel_name": None}, UsageError),
        ("direct", {"kernel_name": "-"}, UsageError),
        ("direct", {"mac": "x\ny\0"}, UsageError),
    ],
)
def test_values_that_cannot_be_said_are_refused(boot: str, changes: dict[str, object], error: type[Exception]) -> None:
    template = shipped("kiro-macos" if boot == "macos" else "kiro-apple")

    with pytest.raises(error):
        render_apple(template, values(boot, **changes))


TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        "</string><key>x</key>",
        "{{ 7*7 }}",
        "$(touch x)",
        "[bold]",
        "\u2028",
        "\ud800",
        "&amp;",
        "]]>",
        "<!--",
        "$nullable",
    ]
)


@settings(max_examples=100, deadline=None)
@given(name=TEXTS, note=TEXTS, arguments=TEXTS)
def test_any_text_comes_back_unchanged_or_is_refused(name: str, note: str, arguments: str) -> None:
    wanted = values("direct", name=name, kernel_arguments=arguments or None)
    wanted = replace(wanted, options={**wanted.options, "notes": note})

    try:
        config = render_apple(shipped("kiro-apple"), wanted).config
    except UsageError:
        return

    assert config.information.name == name
    assert (config.information.notes or "") == note
    assert (config.system.boot.linux_command_line or "") == arguments
    assert config.drive == wanted.drives


BASE = '{% extends "_base/apple.plist.j2" %}'
PAGE = '{% set page %}{% include "kiro-macos/config.plist.j2" %}{% endset %}'


@pytest.mark.parametrize(
    "config",
    [
        BASE,  # no display: the Setup Assistant would have none
        '{% extends "_base/config.plist.j2" %}',
        BASE + "{% block notes %}<key>Extra</key><true/>{% endblock %}",
        BASE + "{% block keyboard %}USB{% endblock %}",
        BASE + "{% block icon %}{{ missing }}{% endblock %}",
        PAGE + '{{ page | replace("<string>Shared</string>", "<string>Bridged</string>") | safe }}',
        PAGE + '{{ page | replace("<key>Audio</key>\n\t\t<false/>", "<key>Audio</key>\n\t\t<true/>") | safe }}',
        PAGE + '{{ page | replace("<string>macOS</string>", "<string>Linux</string>") | safe }}',
        PAGE + "{{ page | replace(machine_identifier, hardware_model) | safe }}",
        PAGE + '{{ page | replace("<string>AuxiliaryStorage", "<string>efi_vars.fd") | safe }}',
    ],
)
def test_a_template_that_does_not_say_what_was_meant_is_refused(tmp_path: Path, config: str) -> None:
    template = templated(tmp_path, config)

    with pytest.raises(UsageError):
        render_apple(template, example_apple_values(template, arch="aarch64", boot="macos"))
