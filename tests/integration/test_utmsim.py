"""utmsim by itself: configurations, registration, what its programs print. No QEMU."""

import csv
import json
import os
import plistlib
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.utmsim import install
from tests.utmsim.arguments import split
from tests.utmsim.config import InvalidError, decode, files, load
from tests.utmsim.mac import UUID, qemu_config, simulated_mac, write_bundle

DATA = Path(__file__).parents[1] / "data"
HEADER = "UUID                                 Status   Name"
DISK = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def mac(tmp_path):
    with simulated_mac(tmp_path) as mac:
        yield mac


@pytest.fixture
def idle(mac, tmp_path):
    return mac.add(write_bundle(tmp_path / "ours", qemu_config()))


# The configuration


# plistlib reads a number with spaces around it, UTM does not.
VERDICTS = [
    row
    for row in csv.DictReader((DATA / "utm-verdicts" / "verdicts.tsv").read_text().splitlines(), delimiter="\t")
    if row["name"] != "format-int-with-spaces"
]


@pytest.mark.parametrize("row", VERDICTS, ids=[row["name"] for row in VERDICTS])
def test_a_configuration_loads_when_utm_s_own_decoder_loads_it(row):
    file = DATA / "utm-verdicts" / f"{row['name']}.plist"

    if row["verdict"] == "OK":
        load(file)
    else:
        with pytest.raises(InvalidError):
            load(file)


def test_unknown_keys_are_forgotten_and_known_ones_kept():
    config = qemu_config()

    read = decode(config | {"Vmkit": 1, "System": config["System"] | {"More": 1}})

    assert read == config


def test_only_files_of_drives_and_fixed_names_are_referenced():
    config = qemu_config()
    config["Drive"] = [{"Identifier": "a", "ImageName": "a.qcow2"}, {"Identifier": "b"}]
    config["QEMU"]["UEFIBoot"] = True

    assert files(config) == {"a.qcow2", "efi_vars.fd"}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("-a b", ["-a", "b"]),
        ('"root=/dev/vda rw"', ["root=/dev/vda rw"]),
        ('-append "a b"', ["-append", "a b"]),
        ('x="a b" c', ['x="a b"', "c"]),
        ("  ", []),
    ],
)
def test_additional_arguments_are_split_outside_quotes(text, tokens):
    assert split(text) == tokens


# utmctl


def test_list_is_of_fixed_width(mac, idle):
    assert mac.utmctl("list").stdout == f"{HEADER}\n{UUID} stopped  idle\n"


@pytest.mark.parametrize("identifier", ["nothing", UUID.lower(), "idl"])
def test_a_machine_is_found_by_exact_uuid_or_exact_name(mac, idle, identifier):
    done = mac.utmctl("status", identifier)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error: Virtual machine not found.\n")
    assert mac.status(UUID) == mac.status("idle") == "stopped"


@pytest.mark.parametrize("argv", [(), ("fly",), ("status",), ("stop", "x", "--softly"), ("file", "pull", "x")])
def test_wrong_usage_is_exit_64(mac, argv):
    assert mac.utmctl(*argv).returncode == 64


def test_an_event_that_fails_is_only_told_on_stderr(mac, idle):
    done = mac.utmctl("stop", UUID)

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "Error from event: The operation couldn\u2019t be completed. (OSStatus error -2700.)\n"
        "The virtual machine is not running.\n"
    )


def test_two_ways_to_stop_are_refused(mac, idle):
    assert mac.utmctl("stop", UUID, "--force", "--kill").returncode == 1


def test_clone_prints_nothing_and_keeps_the_mac_address(mac, idle):
    done = mac.utmctl("clone", UUID, "--name", "twin: 2")

    assert (done.returncode, done.stdout) == (0, "")
    twin = next(entry for entry in mac.listed() if entry["name"] == "twin: 2")
    assert twin["id"] != UUID
    assert mac.configuration(twin["id"])["networkInterfaces"][0]["address"] == "52:54:00:12:34:56"
    assert (mac.documents / "twin- 2.utm").is_dir()


def test_an_older_utm_has_no_version_verb_and_knows_no_apple_address(mac, tmp_path):
    config = plistlib.loads((DATA / "utm-samples" / "apple-linux-kernel.plist").read_bytes())
    uuid = mac.add(write_bundle(tmp_path / "ours", config))
    assert mac.utmctl("version").stdout == "5.0.3\n"

    mac.sim.set_version("4.6.0")

    assert mac.utmctl("version").returncode == 64
    assert mac.utmctl("start", uuid, "--recovery").returncode == 64
    assert "not running" in mac.utmctl("ip-address", uuid).stderr


# Registration


def test_an_import_copies_under_a_free_file_name_and_a_free_uuid(mac, tmp_path):
    bundle = write_bundle(tmp_path / "ours", qemu_config(), disk__img=b"x")

    first, second = mac.add(bundle), mac.add(bundle)

    assert first == UUID != second
    assert sorted(path.name for path in mac.documents.iterdir()) == ["idle-2.utm", "idle.utm"]
    assert bundle.joinpath("Data/disk.img").exists()
    assert [entry["name"] for entry in mac.listed()] == ["idle", "idle"]


def test_an_invalid_configuration_is_not_imported_and_nothing_is_copied(mac, tmp_path):
    config = qemu_config()
    del config["System"]["JITCacheSize"]

    done = mac.osascript("import.applescript", str(write_bundle(tmp_path / "ours", config)))

    assert done.returncode == 1
    assert "execution error: UTM got an error: Cannot import this VM." in done.stderr
    assert "(-2700)" in done.stderr
    assert list(mac.documents.iterdir()) == []


def test_edits_on_disk_are_ignored_until_utm_is_launched_again_and_overwritten_by_a_save(mac, idle):
    file = mac.documents / "idle.utm/config.plist"
    file.write_bytes(plistlib.dumps(qemu_config(name="edited")))
    assert mac.listed()[0]["name"] == "idle"

    mac.sim.relaunch(mac.home)
    assert mac.listed()[0]["name"] == "edited"
    file.write_bytes(plistlib.dumps(qemu_config(name="again")))
    mac.osascript("update_configuration.js", UUID, '{"memory": 64}')

    written = plistlib.loads((mac.documents / "edited.utm/config.plist").read_bytes())
    assert (written["Information"]["Name"], written["System"]["MemorySize"]) == ("edited", 64)


def test_a_launch_lists_bundles_in_documents_and_skips_broken_ones_silently(mac):
    write_bundle(mac.documents, qemu_config("good"))
    write_bundle(mac.documents, {"Information": {"Name": "bad"}})

    done = mac.utmctl("list")

    assert [line[46:] for line in done.stdout.splitlines()[1:]] == ["good"]
    assert done.stderr == ""


def test_a_save_drops_unknown_keys_and_files_and_renames_the_bundle(mac, tmp_path):
    config = qemu_config() | {"Vmkit": True}
    config["Drive"] = [
        {"Identifier": DISK, "ImageName": "a.qcow2", "ImageType": "Disk", "Interface": "VirtIO"},
        {"Identifier": "seed", "ImageName": "seed.iso", "ImageType": "CD", "Interface": "USB"},
    ]
    mac.add(write_bundle(tmp_path / "ours", config, a__qcow2=b"a", seed__iso=b"s", stray__json=b"{}"))
    data = mac.documents / "idle.utm/Data"
    assert sorted(path.name for path in data.iterdir()) == ["a.qcow2", "seed.iso", "stray.json"]

    mac.osascript("update_configuration.js", UUID, json.dumps({"name": "a/b", "drives": [{"id": DISK}]}))

    bundle = mac.documents / "a-b.utm"
    assert [path.name for path in (bundle / "Data").iterdir()] == ["a.qcow2"]
    written = plistlib.loads((bundle / "config.plist").read_bytes())
    assert "Vmkit" not in written
    assert [drive["Identifier"] for drive in written["Drive"]] == [DISK]


def test_an_update_replaces_lists_and_cannot_empty_scalars(mac, tmp_path):
    config = qemu_config()
    config["Information"]["Notes"] = "kept"
    mac.add(write_bundle(tmp_path / "ours", config))

    forward = {"protocol": "TCP", "hostAddress": "127.0.0.1", "hostPort": 2299, "guestPort": 22}
    networks = [{"index": 0, "portForwards": [forward]}, {"mode": "bridged"}]
    change = {"notes": "", "networkInterfaces": networks, "serialPorts": []}
    done = mac.osascript("update_configuration.js", UUID, json.dumps(change))

    assert (done.returncode, done.stderr) == (0, "")
    record = mac.configuration()
    assert record["notes"] == "kept"
    assert record["serialPorts"] == []
    assert [network["mode"] for network in record["networkInterfaces"]] == ["emulated", "bridged"]
    assert record["networkInterfaces"][0]["portForwards"][0]["hostPort"] == 2299


def test_deleting_removes_the_files_and_exporting_copies_them(mac, idle, tmp_path):
    assert mac.osascript("export.applescript", UUID, str(tmp_path / "out.utm")).returncode == 0
    assert mac.utmctl("delete", UUID).returncode == 0

    assert (tmp_path / "out.utm/config.plist").exists()
    assert list(mac.documents.iterdir()) == []
    assert mac.utmctl("list").stdout == HEADER + "\n"


def test_osascript_runs_files_only(mac):
    for argv in (["-e", 'tell application "UTM" to quit'], ["-"], []):
        assert mac.run(str(mac.sim.osascript), *argv).returncode == 2


def test_calls_are_recorded_with_the_scripts_text(mac, idle):
    mac.utmctl("status", "two words; $(x)")

    calls = mac.sim.calls()
    assert calls[0]["text"] == "-- a script"
    assert Path(calls[0]["script"]).name == "import.applescript"
    assert calls[-1] == {"program": "utmctl", "argv": ["status", "two words; $(x)"]}


# Installation


def test_installing_from_the_shell_prints_the_environment(tmp_path):
    argv = [sys.executable, "-m", "tests.utmsim", "install", str(tmp_path / "sim"), "--later-sdef"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])

    environment = json.loads(done.stdout)
    contents = Path(environment["VMKIT_UTM_APP"]) / "Contents"
    assert environment["PATH"].startswith(f"{tmp_path}/sim/bin:")
    assert os.access(contents / "MacOS/utmctl", os.X_OK)
    assert plistlib.loads((contents / "Info.plist").read_bytes())["CFBundleShortVersionString"] == "5.0.3"
    assert "ipsw" in (contents / "Resources/UTM.sdef").read_text()


def test_the_dictionary_of_5_0_3_knows_no_ipsw(tmp_path):
    file = install(tmp_path).app / "Contents/Resources/UTM.sdef"

    terms = {element.get("name") for element in ET.parse(file).iter()}

    assert {"import", "export", "duplicate", "make", "update configuration", "update registry", "query ip"} <= terms
    assert "recovery" in terms
    assert not {"ipsw", "operating system"} & terms
