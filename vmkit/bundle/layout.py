"""The `.utm` folder: `config.plist`, and in `Data/` the files that it names."""

import plistlib
from dataclasses import dataclass
from pathlib import Path

from vmkit.bundle.config import AppleConfig, ConfigError, Drive, QemuConfig, decode
from vmkit.bundle.plist import parse_plist
from vmkit.bundle.plist_values import MAX_BYTES, PlistError
from vmkit.bundle.shared_config import last_component
from vmkit.errors import NotFound, Refused
from vmkit.host.files import read_bounded, write_atomically
from vmkit.host.text import printable

CONFIG_NAME = "config.plist"
DATA_NAME = "Data"
LOGIN_DRIVE = "login"  # the identifier, and so the serial number by which the guest finds it
LOGIN_NAME = "login.qcow2"
PRIVATE_DRIVES = frozenset({LOGIN_DRIVE})  # never part of an image, a snapshot, a rollback or an export


@dataclass(frozen=True)
class Bundle:
    """A `NAME.utm` folder."""

    path: Path

    @property
    def config_plist(self) -> Path:
        """The file that says what the machine is."""
        return self.path / CONFIG_NAME

    @property
    def data(self) -> Path:
        """The folder with disks and other files; UTM deletes what config.plist does not name."""
        return self.path / DATA_NAME

    def read(self) -> QemuConfig:
        """Return the configuration of a machine that QEMU runs. Raises what `read_any` raises, and ConfigError."""
        config = self.read_any()
        if not isinstance(config, QemuConfig):
            raise ConfigError("the bundle is of UTM's Apple backend", path="Backend")
        return config

    def read_any(self) -> QemuConfig | AppleConfig:
        """Return the configuration. Raises NotFound, or Refused (a ConfigError names the key path)."""
        try:
            return decode(parse_plist(read_bounded(self.config_plist, max_bytes=MAX_BYTES)))
        except FileNotFoundError as error:
            raise NotFound(f'"{self.path.name}" has no config.plist') from error
        except PlistError as error:
            raise Refused(
                f'"{self.config_plist}" is not a valid property list', detail=printable(str(error))
            ) from error

    def write(self, config: QemuConfig | AppleConfig) -> None:
        """Replace config.plist, whole or not at all."""
        write_atomically(self.config_plist, plistlib.dumps(config.to_plist(), fmt=plistlib.FMT_XML))

    def file(self, name: str) -> Path:
        """Return where the file `name` of config.plist lies: in `Data/`, whatever folders the name holds.

        Raises Refused for a name that would leave the folder.
        """
        component = last_component(name)
        if component in (".", "..") or "\0" in component:
            raise Refused(f'"{component[:60]}" is no name of a file in a bundle')
        return self.data / component


def private_drives(config: QemuConfig | AppleConfig) -> tuple[Drive, ...]:
    """Return the drives that belong to the machine's name alone: who copies a machine, or its past, leaves them out."""
    drives = config.drive if isinstance(config, QemuConfig) else ()
    return tuple(drive for drive in drives if drive.identifier in PRIVATE_DRIVES)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A configuration and the config.plist that says it; `render` made sure that they are the same."""

    config: QemuConfig | AppleConfig
    content: bytes


def write_bundle(folder: Path, rendered: Rendered) -> Bundle:
    """Make the bundle `folder` with its config.plist and an empty `Data/`; the caller stages and publishes it."""
    bundle = Bundle(folder)
    bundle.data.mkdir(mode=0o700, parents=True)
    write_atomically(bundle.config_plist, rendered.content)
    return bundle
