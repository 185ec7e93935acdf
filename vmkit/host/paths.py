"""Where vmkit keeps things: one folder when `VMKIT_HOME` is set, else the platform's config, data and cache folders."""

import os
from dataclasses import dataclass
from pathlib import Path

_SUN_PATH_LIMIT = 104  # macOS sys/un.h; Linux allows 108


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The folders of one vmkit installation."""

    config: Path
    data: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> "Paths":
        """Read `VMKIT_HOME`, or ask platformdirs."""
        home = os.environ.get("VMKIT_HOME")
        if home:
            root = Path(home).expanduser().absolute()
            return cls(config=root, data=root, cache=root / "cache")
        from platformdirs import PlatformDirs  # noqa: PLC0415  # 5 ms that a VMKIT_HOME user does not pay

        dirs = PlatformDirs("vmkit", appauthor=False)
        return cls(config=Path(dirs.user_config_dir), data=Path(dirs.user_data_dir), cache=Path(dirs.user_cache_dir))

    @property
    def settings(self) -> Path:
        """The user's `config.toml`."""
        return self.config / "config.toml"

    @property
    def templates(self) -> Path:
        """The user's own templates."""
        return self.config / "templates"

    @property
    def recipes(self) -> Path:
        """The user's own recipes."""
        return self.config / "recipes"

    @property
    def login_keys(self) -> Path:
        """One key per login disk, apart from the disks."""
        return self.config / "login-keys"

    @property
    def logins(self) -> Path:
        """The login disks that are in no machine, by the machine's name, and since when each login is."""
        return self.data / "logins"

    @property
    def machines(self) -> Path:
        """One folder per machine."""
        return self.data / "machines"

    @property
    def images(self) -> Path:
        """The image store."""
        return self.data / "images"

    @property
    def trust(self) -> Path:
        """Whose signatures count, and which keys are revoked."""
        return self.config / "trust"

    @property
    def image_marks(self) -> Path:
        """The newest signed image seen of each line: outside the store, where no image can lower it."""
        return self.data / "image-marks.json"

    @property
    def staging(self) -> Path:
        """Half-made things, on the file system of what they become."""
        return self.data / "staging"

    @property
    def locks(self) -> Path:
        """Lock files; never deleted."""
        return self.data / "locks"

    def sockets(self, uuid: str) -> Path:
        """Return the folder for one machine's sockets: short enough for `sun_path`, the same for every command."""
        beside = self.data / "run" / uuid[:8].lower()
        if len(os.fsencode(beside / "monitor.sock")) < _SUN_PATH_LIMIT:
            return beside
        return Path("/tmp") / f"vmkit-{os.getuid()}" / uuid[:8].lower()  # noqa: S108  # checked by own_directory
