"""The parts of `config.plist` that both of UTM's backends have."""

# ruff: noqa: RUF009  # key() returns a dataclasses.field

import secrets
from dataclasses import dataclass
from enum import StrEnum

from vmkit.bundle.decode import choice, key, read_bool, read_int, read_text, read_uuid


def last_component(name: str) -> str:
    """Return the name under which UTM keeps a file in `Data/`: it drops the folders, and an empty name is `Data`."""
    return name.rstrip("/").rpartition("/")[2] or "Data"


def make_mac() -> str:
    """Return a locally administered unicast address, drawn as UTM draws it (first octet `b & 0xFC | 2`)."""
    octets = bytearray(secrets.token_bytes(6))
    octets[0] = octets[0] & 0xFC | 0x02
    return ":".join(f"{octet:02X}" for octet in octets)


@dataclass(frozen=True, kw_only=True, slots=True)
class Information:
    """What UTM shows of a machine."""

    name: str = key("Name", read_text)
    icon_custom: bool = key("IconCustom", read_bool)
    icon: str | None = key(
        "Icon",
        read_text,
        optional=lambda values: not values["icon_custom"],
        saved=lambda self: last_component(self.icon) if self.icon_custom and self.icon else self.icon,
    )
    notes: str | None = key("Notes", read_text, optional=True)
    uuid: str = key("UUID", read_uuid)


class Theme(StrEnum):
    """Colours of UTM's terminal window."""

    DEFAULT = "Default"


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """UTM's terminal window for a serial port."""

    theme: Theme | None = key("Theme", choice(Theme), optional=True)
    foreground_color: str | None = key(
        "ForegroundColor", read_text, optional=True, saved=lambda self: None if self.theme else self.foreground_color
    )
    background_color: str | None = key(
        "BackgroundColor", read_text, optional=True, saved=lambda self: None if self.theme else self.background_color
    )
    font: str = key("Font", read_text)
    font_size: int = key("FontSize", read_int)
    resize_command: str | None = key("ResizeCommand", read_text, optional=True)
    cursor_blink: bool = key("CursorBlink", read_bool, optional=True, default=True)
