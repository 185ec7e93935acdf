"""Fill a template's `config.plist.j2`, and believe the result only when UTM would load just that.

Jinja is a text tool and XML is not text: what comes out is parsed back, and the caller compares it with what was meant.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vmkit.bundle.arguments import quote_argument
from vmkit.bundle.check import judge
from vmkit.bundle.config import AppleConfig, ConfigError, QemuConfig, decode
from vmkit.bundle.plist import parse_plist
from vmkit.bundle.template import Template
from vmkit.errors import Refused, UsageError
from vmkit.host.files import read_bounded
from vmkit.host.text import printable

_MAX_BYTES = 256 << 10
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


def fill(template: Template, names: Mapping[str, object]) -> bytes:
    """Return what the template says with `names` in it. Raises UsageError with the file and the reason."""
    import jinja2  # noqa: PLC0415  # 30 ms
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    def load(name: str) -> tuple[str, None, None]:
        return _source(template, name), None, None

    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=_finalize,
        loader=jinja2.FunctionLoader(load),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    environment.filters["argument"] = quote_argument
    try:
        return environment.get_template(template.config_file).render(**names).encode()
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        reason = error.message if isinstance(error, jinja2.TemplateError) else str(error)
        raise unfit(template, f"{type(error).__name__}: {reason}") from error


def believe(template: Template, content: bytes) -> QemuConfig | AppleConfig:
    """Return the configuration in `content`. Raises UsageError unless UTM would load it and change nothing."""
    verdict = judge(content)
    if not verdict.loads:
        problem = verdict.problems[0]
        raise unfit(template, f"UTM would not load it: {problem.problem} {problem.path}".rstrip())
    for what, keys in (("ignore", verdict.ignored_keys), ("miss", verdict.defaults)):
        if keys:
            raise unfit(template, f'UTM would {what} the key "{next(iter(keys))}"')
    if verdict.changed:
        raise unfit(template, f'UTM would change the key "{verdict.changed[0].path}"')
    try:
        return decode(parse_plist(content))
    except ConfigError as error:  # judged to load just before
        raise unfit(template, error.problem) from error


def require_meant(template: Template, pairs: Iterable[tuple[str, object, object]]) -> None:
    """Raise UsageError for the first of (what, wanted, found) in which the two differ."""
    for what, wanted, found in pairs:
        if wanted != found:
            raise unfit(template, f"{what} should be {wanted!r} and is {found!r}")


def require_names(names: Iterable[str | None]) -> None:
    """Raise UsageError for a name that cannot be one of a file in `Data/`, or of a drive; None is no name."""
    for name in names:
        if name is not None and not _FILE.fullmatch(name):
            raise UsageError(f'"{printable(name, max_chars=60)}" cannot name a file or a drive in a bundle')


def unfit(template: Template, reason: str) -> UsageError:
    """Word why a template's result is not taken."""
    layer, _, name = template.config_file.partition("/")
    return UsageError(
        f'template "{template.name}" does not render what was meant: {printable(reason)}',
        detail=str(template.chain[layer] / name),
        hint=f"vmkit template check {template.name}",
    )


def _source(template: Template, name: str) -> str:
    """Read a file of the template, of one that it extends, or of the shared blocks; nothing else."""
    layer, _, file = name.partition("/")
    if layer not in template.chain or not _FILE.fullmatch(file):
        raise UsageError(
            f'template "{template.name}" includes "{printable(name, max_chars=80)}"',
            hint=f"a file of one of: {', '.join(template.chain)}, written FOLDER/FILE",
        )
    path: Path = template.chain[layer] / file
    try:
        return read_bounded(path, max_bytes=_MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError, Refused) as error:
        raise UsageError(f'"{path}" cannot be read', detail=str(error)) from error


def _finalize(value: Any) -> Any:
    """Let text, whole numbers and booleans through, and what is undefined, which raises by itself."""
    import jinja2  # noqa: PLC0415

    if not isinstance(value, str | int | jinja2.Undefined):
        raise UsageError(f"a template prints a {type(value).__name__}; it may print text, whole numbers and booleans")
    if value == "$null":
        raise UsageError('a template prints "$null", which Apple\'s property lists take for nothing at all')
    return value
