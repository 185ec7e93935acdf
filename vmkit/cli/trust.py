"""`vmkit trust add|list|remove|revoke`."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.render import say, show_json, show_table, show_text
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError
from vmkit.host.durations import parse_moment
from vmkit.images.signing.sshkey import PublicKey
from vmkit.images.signing.statement import show_time
from vmkit.images.signing.trust import Allowed, Trust, TrustStore, read_public_key

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Say whose signatures of images count."
)

Signer = Annotated[str, typer.Argument(help="Who it is, such as alice@example.com.")]


@app.command("add")
def add(
    ctx: typer.Context,
    signer: Signer,
    public_key_file: Annotated[Path, typer.Argument(help="Their public key, a .pub file of OpenSSH.")],
    *,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Until when the key counts: 30d, 2027-01-31.")
    ] = None,
) -> None:
    """Trust the images that a key has signed."""
    tools: Tools = ctx.obj
    moment = parse_moment(until, what="--until", now=dt.datetime.now(dt.UTC)) if until else None
    key = read_public_key(public_key_file.expanduser())
    added = _store(tools).add(signer, key, until=moment)
    if tools.flags.json:
        show_json({"signer": _json(added, revoked=False)})
        return
    show_text(f"images signed by {added.signer} are trusted: {key.kind} {key.fingerprint}")
    if tools.settings.policy.get("require_signature") is not True:
        say("unsigned images are still used; hint: vmkit config set policy.require_signature true", tools.flags)


@app.command("list")
def list_signers(ctx: typer.Context) -> None:
    """List whose signatures count, and the keys that are revoked."""
    tools: Tools = ctx.obj
    trust = _store(tools).load()
    if tools.flags.json:
        show_json(
            {
                "signers": [_json(each, revoked=each.key in trust.revoked) for each in trust.allowed],
                "revoked": [key.fingerprint for key in trust.revoked],
            }
        )
        return
    rows = [(each.signer, each.key.kind, each.key.fingerprint, _state(each, trust)) for each in trust.allowed]
    strangers = [key for key in trust.revoked if trust.find(key) is None]
    rows += [("-", key.kind, key.fingerprint, "revoked") for key in strangers]
    if rows:
        show_table(("SIGNER", "KIND", "KEY", "UNTIL"), rows)
    else:
        say("nobody is trusted yet; hint: vmkit trust add SIGNER PUBLIC_KEY_FILE", tools.flags)


@app.command("remove")
def remove(ctx: typer.Context, signer: Signer) -> None:
    """Trust none of a signer's keys any more. A key that may have been stolen is to be revoked instead."""
    tools: Tools = ctx.obj
    removed = _store(tools).remove(signer)
    if tools.flags.json:
        show_json({"removed": [each.key.fingerprint for each in removed]})
        return
    show_text(f"{signer} is trusted no more ({len(removed)} {'key' if len(removed) == 1 else 'keys'})")


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    who: Annotated[str, typer.Argument(metavar="SIGNER|PUBLIC_KEY_FILE", help="A signer, or a key's .pub file.")],
) -> None:
    """Refuse, for good, what a key has signed: a signer's every key, or the key in a file."""
    tools: Tools = ctx.obj
    store = _store(tools)
    keys = _keys(who, store)
    store.revoke(keys)
    if tools.flags.json:
        show_json({"revoked": [key.fingerprint for key in keys]})
        return
    for key in keys:
        show_text(f"{key.fingerprint} is revoked")


def _keys(who: str, store: TrustStore) -> tuple[PublicKey, ...]:
    """Return what is meant: a signer goes before a file, which can be written as ./FILE."""
    if any(each.signer == who for each in store.load().allowed):
        return store.keys_of(who)
    path = Path(who).expanduser()
    if not path.is_file():
        raise UsageError(f'"{who}" is neither a signer nor a file', hint="vmkit trust list")
    return (read_public_key(path),)


def _store(tools: Tools) -> TrustStore:
    return TrustStore(tools.paths.trust)


def _state(each: Allowed, trust: Trust) -> str:
    if each.key in trust.revoked:
        return "revoked"
    return show_time(each.until) if each.until else "always"


def _json(each: Allowed, *, revoked: bool) -> dict[str, object]:
    return {
        "signer": each.signer,
        "kind": each.key.kind,
        "fingerprint": each.key.fingerprint,
        "until": show_time(each.until) if each.until else None,
        "revoked": revoked,
    }
