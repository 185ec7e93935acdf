"""Templates: `template.toml` and `config.plist.j2` in a folder of their own, shipped or the user's.

A user's template comes before a shipped one of the same name, and may extend another: it inherits what it does not say.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmkit.bundle.template_fields import FIELDS, TemplateOption, read_field, read_options, with_defaults
from vmkit.errors import NotFound, Refused, UsageError
from vmkit.host.files import read_bounded
from vmkit.host.resources import data_folder

TEMPLATE_FILE = "template.toml"
CONFIG_FILE = "config.plist.j2"
CONFIG_FILES = {"qemu": CONFIG_FILE, "apple": "apple.plist.j2"}  # the shared ones, by backend
SHARED = "_base"  # blocks that every template may include

_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
_MAX_BYTES = 256 << 10


@dataclass(frozen=True, kw_only=True)
class Template:
    """What kind of machine to make, and how its bundle is rendered."""

    name: str
    summary: str
    cpus: int
    memory_mib: int
    disk_bytes: int
    image: str
    user: str
    recipes: tuple[str, ...]
    egress: str
    backend: str = "qemu"  # UTM's: qemu or apple
    system: str = "linux"  # what runs in it: linux or macos
    options: Mapping[str, TemplateOption] = field(default_factory=dict)
    chain: Mapping[str, Path] = field(default_factory=dict)  # its folder, its parents', and the shared blocks
    config_file: str = f"{SHARED}/{CONFIG_FILE}"  # `NAME/config.plist.j2`, NAME being a key of `chain`


def list_templates(*, user_folder: Path) -> list[Template]:
    """Return every template, by name. Raises UsageError for the first one that is wrong."""
    return [load_template(name, user_folder=user_folder) for name in _names(user_folder)]


def load_template(name: str, *, user_folder: Path) -> Template:
    """Read a template and those that it extends.

    Raises NotFound with the nearest names, UsageError with the file and the key that is wrong.
    """
    layers = _layers(name, user_folder)
    values: dict[str, Any] = {}
    options: dict[str, TemplateOption] = {}
    for _, folder, content in reversed(layers):
        file = folder / TEMPLATE_FILE
        values |= {key: read_field(key, value, file=file) for key, value in content.items() if key in FIELDS}
        options |= read_options(content.get("options", {}), file=file)
    values = with_defaults(values, template=name, file=layers[0][1] / TEMPLATE_FILE)
    chain = {layer: folder for layer, folder, _ in layers} | {SHARED: data_folder("vm-templates") / SHARED}
    own = (f"{layer}/{CONFIG_FILE}" for layer, folder in chain.items() if (folder / CONFIG_FILE).is_file())
    shared = f"{SHARED}/{CONFIG_FILES[values['backend']]}"
    return Template(
        name=name,
        **{FIELDS[key].attribute: value for key, value in values.items()},
        options=options,
        chain=chain,
        config_file=next((file for file in own if not file.startswith(f"{SHARED}/")), shared),
    )


def resolve_options(template: Template, settings: Sequence[str]) -> Mapping[str, str | int | bool]:
    """Return the value of every option: its default, or what a `KEY=VALUE` says. Raises UsageError."""
    values = {name: option.default for name, option in template.options.items()}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f'--set "{setting[:60]}" is not KEY=VALUE', hint=f"vmkit template show {template.name}")
        if name not in template.options:
            raise UsageError(
                f'template "{template.name}" has no option "{name[:60]}"', hint=_near(name, template.options, "options")
            )
        values[name] = template.options[name].parse(name, text)
    return values


def check_template(name: str, *, user_folder: Path) -> None:
    """Render a template with its defaults for every way to boot, and compare. Raises UsageError, NotFound."""
    from vmkit.bundle.render import example_values, render  # noqa: PLC0415  # needed by nobody who only lists
    from vmkit.bundle.render_apple import example_apple_values, render_apple  # noqa: PLC0415  # as above

    template = load_template(name, user_folder=user_folder)
    if template.system == "macos":
        render_apple(template, example_apple_values(template, arch="aarch64", boot="macos"))
        return
    for arch, boot in (("x86_64", "direct"), ("x86_64", "uefi"), ("aarch64", "direct"), ("aarch64", "uefi")):
        if template.backend == "apple":
            render_apple(template, example_apple_values(template, arch=arch, boot=boot))
        else:
            render(template, example_values(template, arch=arch, boot=boot))


def _layers(name: str, user_folder: Path) -> list[tuple[str, Path, dict[str, Any]]]:
    """Return the template and its ancestors: name, folder, content of template.toml."""
    layers: list[tuple[str, Path, dict[str, Any]]] = []
    wanted: str | None = name
    asked_by = user_folder
    while wanted is not None:
        folder = _find(wanted, user_folder, after=[folder for _, folder, _ in layers], asked_by=asked_by)
        content = _read(folder / TEMPLATE_FILE)
        # A user's "kiro" that extends the shipped "kiro" is two layers of one name.
        layers.append((f"{wanted}~" if any(wanted == layer for layer, _, _ in layers) else wanted, folder, content))
        wanted, asked_by = content.get("extends"), folder
        if wanted is not None and not isinstance(wanted, str):
            raise UsageError('"extends" must be the name of a template', detail=str(folder / TEMPLATE_FILE))
    return layers


def _find(name: str, user_folder: Path, *, after: list[Path], asked_by: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'"{name[:60]}" cannot name a template',
            detail=str(asked_by / TEMPLATE_FILE) if after else None,
            hint="a lower-case letter, then up to 40 lower-case letters, digits or hyphens",
        )
    found = [folder / name for folder in (user_folder, data_folder("vm-templates"))]
    present = [folder for folder in found if (folder / TEMPLATE_FILE).is_file()]
    if not present:
        hint = _near(name, _names(user_folder), "templates")
        extends = f', which "{asked_by.name}" extends' if after else ""
        raise NotFound(f'there is no template "{name}"{extends}', hint=hint)
    fresh = [folder for folder in present if folder not in after]
    if not fresh:
        raise UsageError(f'template "{name}" extends itself', detail=str(asked_by / TEMPLATE_FILE))
    return fresh[0]


def _read(file: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415  # 10 ms that only those pay who read a template

    try:
        content = tomllib.loads(read_bounded(file, max_bytes=_MAX_BYTES).decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, Refused, RecursionError) as error:
        raise UsageError(f'"{file}" cannot be read', detail=str(error)) from error
    allowed = (*FIELDS, "extends", "options")
    for key in content:
        if key not in allowed:
            raise UsageError(f'"{file}" has an unknown key "{key[:60]}"', hint=_near(key, allowed, "keys"))
    return content


def _names(user_folder: Path) -> list[str]:
    found = {
        file.parent.name
        for folder in (user_folder, data_folder("vm-templates"))
        for file in folder.glob(f"*/{TEMPLATE_FILE}")
    }
    return sorted(name for name in found if _NAME.fullmatch(name))


def _near(name: str, known: Iterable[str], what: str) -> str:
    import difflib  # noqa: PLC0415  # only for an error

    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"{what}: {', '.join(known) or 'none'}"
