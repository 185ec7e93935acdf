"""Rendering: secure by construction, golden files, and nothing that says one thing to us and another to UTM."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmkit.bundle.check import judge
from vmkit.bundle.config import ImageType, Interface, NetworkMode, ShareMode, UsbBus
from vmkit.bundle.layout import private_drives
from vmkit.bundle.render import BundleValues, example_values, render
from vmkit.bundle.template import Template, load_template
from vmkit.errors import UsageError

DATA = Path(__file__).parents[2] / "data" / "plists"
NOWHERE = Path("/nonexistent/templates")


def shipped(name: str = "kiro") -> Template:
    return load_template(name, user_folder=NOWHERE)


def values(**changes: object) -> BundleValues:
    return replace(example_values(shipped(), arch="x86_64", boot="direct"), **changes)  # type: ignore[arg-type]


def templated(tmp_path: Path, config: str) -> Template:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "template.toml").write_text('extends = "debian"\n')
    (tmp_path / "mine" / "config.plist.j2").write_text(config)
    return load_template("mine", user_folder=tmp_path)


@pytest.mark.parametrize("name", ["debian", "kiro"])
def test_a_shipped_template_renders_its_golden_file(name: str) -> None:
    template = shipped(name)

    rendered = render(template, example_values(template, arch="x86_64", boot="direct"))

    assert rendered.content.decode() == (DATA / f"{name}.plist").read_text()


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("boot", ["direct", "uefi"])
def test_a_rendered_bundle_loads_in_utm_with_no_key_too_many_or_missing(arch: str, boot: str) -> None:
    rendered = render(shipped(), example_values(shipped(), arch=arch, boot=boot))

    verdict = judge(rendered.content)

    assert verdict.loads
    assert (verdict.ignored_keys, dict(verdict.defaults), verdict.changed) == ((), {}, ())
    assert rendered.config.qemu.uefi_boot is (boot == "uefi")


def test_a_machine_shares_nothing_and_listens_on_loopback_only() -> None:
    config = render(shipped(), values()).config

    (network,) = config.network
    (forward,) = network.port_forward
    assert network.mode is NetworkMode.EMULATED
    assert (forward.host_address, forward.host_port, forward.guest_port) == ("127.0.0.1", 2222, 22)
    assert config.sharing.directory_share_mode is ShareMode.NONE
    assert not config.sharing.clipboard_sharing
    assert config.input.usb_bus_support is UsbBus.DISABLED
    assert (config.sound, config.display, len(config.serial)) == ((), (), 1)


def test_isolation_reaches_the_network_card() -> None:
    assert render(shipped(), values(isolated=True)).config.network[0].isolate_from_host


def test_a_direct_boot_has_kernel_initrd_and_arguments() -> None:
    config = render(shipped(), values(kernel_arguments='root=/dev/vda a="b"'.replace('"', "'"))).config

    assert [(drive.image_type, drive.interface) for drive in config.drive] == [
        (ImageType.DISK, Interface.VIRTIO),
        (ImageType.CD, Interface.VIRTIO),
        (ImageType.DISK, Interface.VIRTIO),  # the login's
        (ImageType.KERNEL, Interface.NONE),
        (ImageType.INITRD, Interface.NONE),
    ]
    assert config.qemu.extra_arguments == ["-append", "root=/dev/vda a='b'"]


def test_a_quote_in_the_kernel_s_arguments_is_refused() -> None:
    with pytest.raises(UsageError):
        render(shipped(), values(kernel_arguments='a="b c"'))


@pytest.mark.parametrize(
    "changes",
    [
        {"disk_name": "../disk.qcow2"},
        {"seed_name": "a/b"},
        {"disk_name": ""},
        {"disk_identifier": "a,b"},
        {"arch": "riscv64"},
        {"boot": "pxe"},
        {"uuid": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"},
        {"name": "a\x07b"},
        {"name": "$null"},
        {"mac": "x\ny\0"},
    ],
)
def test_values_that_cannot_be_said_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        render(shipped(), values(**changes))


NAMES = st.text(max_size=30) | st.sampled_from(
    [
        "</string><key>x</key>",
        "{{ 7*7 }}",
        "{% raw %}",
        "a,b=c",
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


@settings(max_examples=120, deadline=None)
@given(name=NAMES, note=NAMES, arguments=NAMES)
def test_any_text_comes_back_unchanged_or_is_refused(name: str, note: str, arguments: str) -> None:
    wanted = values(
        name=name, kernel_arguments=arguments or None, options={"display": False, "balloon": False, "notes": note}
    )

    try:
        config = render(shipped(), wanted).config
    except UsageError:
        return

    assert config.information.name == name
    assert (config.information.notes or "") == note
    assert config.qemu.extra_arguments == (["-append", arguments] if arguments else [])
    assert config.drive == wanted.drives
    assert config.network == (wanted.network,)


BASE = '{% extends "_base/config.plist.j2" %}'


@pytest.mark.parametrize(
    "config",
    [
        "no plist",
        BASE + "{% block notes %}<key>Extra</key><true/>{% endblock %}",
        BASE + "{% block notes %}<key>Name</key><string>x</string>{% endblock %}",
        BASE + "{% block notes %}{{ missing }}{% endblock %}",
        BASE + "{% block notes %}{{ 1.5 }}{% endblock %}",
        BASE + "{% block notes %}{{ machine.options }}{% endblock %}",
        BASE + "{% block cpu %}no-such-cpu{% endblock %}",
        BASE + "{% block cpu %}{{ ''.__class__.__mro__ }}{% endblock %}",
        BASE + '{% block cpu %}{% include "_base/../../pyproject.toml" %}{% endblock %}',
        BASE + '{% block cpu %}{% include "/etc/passwd" %}{% endblock %}',
        BASE + '{% block cpu %}{% include "kiro/template.toml" %}{% endblock %}',
        '{% extends "_base/missing.j2" %}',
        "{% if %}",
        "{{ 1 / 0 }}",
        '{% set page %}{% include "_base/config.plist.j2" %}{% endset %}{{ page | replace("Emulated", "Shared") | safe }}',
        '{% set page %}{% include "_base/config.plist.j2" %}{% endset %}{{ page | replace("127.0.0.1", "0.0.0.0") | safe }}',
    ],
)
def test_a_template_that_does_not_say_what_was_meant_is_refused(tmp_path: Path, config: str) -> None:
    template = templated(tmp_path, config)

    with pytest.raises(UsageError):
        render(template, example_values(template, arch="x86_64", boot="direct"))


def test_the_refusal_names_the_file_and_the_reason(tmp_path: Path) -> None:
    template = templated(tmp_path, BASE + "{% block notes %}<key>Extra</key><true/>{% endblock %}")

    with pytest.raises(UsageError) as raised:
        render(template, example_values(template, arch="x86_64", boot="direct"))

    assert "Information.Extra" in raised.value.message
    assert raised.value.detail == str(tmp_path / "mine" / "config.plist.j2")


@pytest.mark.parametrize(("boot", "last"), [("direct", ["login", "kernel", "initrd"]), ("uefi", ["login"])])
def test_the_logins_disk_comes_after_the_seed_and_is_the_only_private_one(boot: str, last: list[str]) -> None:
    example = example_values(shipped(), arch="x86_64", boot=boot)

    config = render(shipped(), replace(example, login_name="login.qcow2")).config

    assert [drive.identifier for drive in config.drive][1:] == ["seed", *last]
    (login,) = private_drives(config)
    assert (login.image_name, login.interface, login.read_only) == ("login.qcow2", Interface.VIRTIO, False)
    assert private_drives(render(shipped(), replace(example, login_name=None)).config) == ()
