"""`vmkit net show|allow|deny|log|why|learn`."""

import json
import sys
import time
from typing import Annotated

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json, show_table, show_text
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError
from vmkit.host.durations import parse_duration, show_duration
from vmkit.host.text import printable
from vmkit.network.policy import show_time
from vmkit.network.rules import HTTPS, Rule

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="See and change what a machine's guest may reach.",
)

Words = Annotated[list[str], typer.Argument(metavar="[NAME] TARGET…", help="Machine, then HOST[:PORT] or groups.")]


@app.command("show")
def show(ctx: typer.Context, name: Name = None) -> None:
    """Show a machine's policy: what may be reached, by which group, until when."""
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    from vmkit.workflows.net import policy_of  # noqa: PLC0415

    policy = policy_of(machine)
    if tools.flags.json:
        show_json(
            {
                "machine": machine.name,
                "mode": str(policy.mode),
                "rules": [rule.to_json() for rule in policy.rules],
                "denied": list(policy.denied),
                "learning_since": policy.learning_since,
            }
        )
        return
    now = time.time()
    show_text(f"mode {policy.mode}")
    if policy.rules or policy.denied:
        rows = [_row(rule, now) for rule in policy.rules]
        show_table(
            ("HOST", "PORTS", "GROUP", "BY", "ENDS"), rows + [(host, "-", "-", "denied", "-") for host in policy.denied]
        )
    if policy.learning_since is not None:
        say(
            f"learning since {show_time(policy.learning_since)}; hint: vmkit net learn {machine.name} --propose",
            tools.flags,
        )


@app.command("allow")
def allow(
    ctx: typer.Context,
    words: Words,
    *,
    for_: Annotated[str | None, typer.Option("--for", help="For this long only: 90s, 30m, 2h, 1d.")] = None,
) -> None:
    """Allow HOST[:PORT], *.DOMAIN or a group, at once on a running machine. Port 443 is meant without one."""
    tools: Tools = ctx.obj
    name, targets = _split(words)
    for_s = None if for_ is None else parse_duration(for_, what="--for")
    machine = tools.machine(name)
    from vmkit.workflows.net import allow as allow_targets  # noqa: PLC0415

    changed = allow_targets(machine, targets, machines=tools.machines, for_s=for_s)
    if tools.flags.json:
        show_json(changed.to_json())
        return
    for rule in changed.added:
        for_long = f" for {show_duration(for_s)}" if for_s else ""
        say(f"{machine.name} may reach {rule.target}{for_long}", tools.flags)
    for note in changed.notes:
        say(note, tools.flags)


@app.command("deny")
def deny(ctx: typer.Context, words: Words) -> None:
    """Take back what allows a HOST, *.DOMAIN or group; deny by name what another rule still allows."""
    tools: Tools = ctx.obj
    name, targets = _split(words)
    machine = tools.machine(name)
    from vmkit.workflows.net import deny as deny_targets  # noqa: PLC0415

    changed = deny_targets(machine, targets, machines=tools.machines)
    if tools.flags.json:
        show_json(changed.to_json())
        return
    for target in targets:
        say(f"{machine.name} may not reach {target}", tools.flags)
    for note in changed.notes:
        say(note, tools.flags)


@app.command("log")
def log(
    ctx: typer.Context,
    name: Name = None,
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many of the last lines.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows, until Ctrl-C.")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Refusals only.")] = False,
) -> None:
    """Show what was allowed and refused, through the line filter. With --follow, --json prints one object a line."""
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    from vmkit.network.history import Entry, parse_entries, read_entries  # noqa: PLC0415
    from vmkit.workflows.logs import follow_log  # noqa: PLC0415
    from vmkit.workflows.net import log_path  # noqa: PLC0415

    def print_line(entry: Entry) -> None:
        sys.stdout.write((json.dumps(entry.to_json()) if tools.flags.json else entry.line()) + "\n")

    path = log_path(machine)
    found = [entry for entry in read_entries(path) if not (refused and entry.allowed)][-lines:]
    if tools.flags.json and not follow:
        show_json({"machine": machine.name, "entries": [entry.to_json() for entry in found]})
        return
    for entry in found:
        print_line(entry)
    if follow:
        sys.stdout.flush()
        for block in follow_log(path):
            for entry in parse_entries(block.split(b"\n")):
                if not (refused and entry.allowed):
                    print_line(entry)
            sys.stdout.flush()


@app.command("why")
def why(ctx: typer.Context, words: Words) -> None:
    """Say which rule allows a host, its group and who added it, or why none does: exit 0 allowed, 6 refused."""
    tools: Tools = ctx.obj
    name, targets = _split(words, most=1)
    machine = tools.machine(name)
    from vmkit.workflows.net import why as explain  # noqa: PLC0415

    said = explain(machine, targets[0])
    decision = said.decision
    if tools.flags.json:
        show_json(said.to_json())
    else:
        show_text(decision.reason)
        if said.group:
            show_text(f"group {said.group.name}: {said.group.summary}")
        if said.group_reason:
            show_text(f"{decision.host} is there for: {said.group_reason}")
        if decision.nearest:
            show_text(f"the nearest name that is allowed: {decision.nearest}")
        for group in said.offered:
            show_text(f"group {group} has it: vmkit net allow {machine.name} {group}")
        if said.last:
            show_text(printable(f"last refused {show_time(said.last.time)}: {said.last.reason}"))
        if not decision.allowed:
            target = decision.host if decision.port == HTTPS else f"{decision.host}:{decision.port}"
            say(f"hint: vmkit net allow {machine.name} {target}", tools.flags)
    raise typer.Exit(0 if decision.allowed else 6)


@app.command("learn")
def learn(
    ctx: typer.Context,
    name: Name = None,
    *,
    propose: Annotated[bool, typer.Option("--propose", help="Print the smallest policy for what was refused.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Forget since when to learn.")] = False,
) -> None:
    """Note what the guest asks for from now on. Still refused: nothing opens by it."""
    tools: Tools = ctx.obj
    if propose and stop:
        raise UsageError("--propose and --stop do not go together")
    machine = tools.machine(name)
    from vmkit.workflows.net import learn as learn_from_now  # noqa: PLC0415

    if propose:
        _propose(tools, machine.name)
        return
    since = learn_from_now(machine, machines=tools.machines, on=not stop)
    if tools.flags.json:
        show_json({"machine": machine.name, "learning_since": since})
    elif since is None:
        say(f"{machine.name} is not learning", tools.flags)
    else:
        say(f"{machine.name} is learning since {show_time(since)}: refusals are kept, nothing opens", tools.flags)
        say(f"hint: vmkit net learn {machine.name} --propose", tools.flags)


def _propose(tools: Tools, name: str) -> None:
    from vmkit.workflows.net import proposal  # noqa: PLC0415

    machine = tools.machine(name)
    found = proposal(machine)
    if tools.flags.json:
        proposed = [one.to_json() for one in found.proposed]
        show_json({"machine": name, "learning_since": found.since, "proposed": proposed, "left_out": found.left_out})
        return
    show_text(*(one.to_toml() for one in found.proposed))
    if not found.proposed:
        say("nothing was refused that a rule would allow", tools.flags)
        return
    if found.left_out:
        say(f"{found.left_out} more names were refused; the {len(found.proposed)} most refused are shown", tools.flags)
    say(f"hint: vmkit net allow {name} HOST, or add what you approve to {machine.policy}", tools.flags)


def _split(words: list[str], *, most: int | None = None) -> tuple[str | None, list[str]]:
    """Tell the machine from the targets: a lone word is a target of the default machine."""
    name, targets = (None, words) if len(words) == 1 else (words[0], words[1:])
    if most is not None and len(targets) > most:
        raise UsageError("one host at a time", hint="vmkit net why NAME HOST")
    return name, targets


def _row(rule: Rule, now: float) -> tuple[str, ...]:
    ports = ", ".join(str(port) for port in rule.ports)
    ends = "-"
    if rule.expires is not None:
        ends = f"in {show_duration(rule.expires - now)}" if rule.is_live(now) else "ended"
    return (rule.host, ports, rule.group or "-", rule.added_by, ends)
