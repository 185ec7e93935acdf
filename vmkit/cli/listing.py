"""What `vmkit list` prints. Apart from the other commands: it must not wait for the parser."""

from vmkit.cli.app import App
from vmkit.cli.render import say, show_json, show_table, show_text
from vmkit.host.sizes import show_size
from vmkit.workflows.status import Status, status_of_all


def show_list(app: App) -> None:
    """Print the machines and what they are doing."""
    found = status_of_all(machines=app.machines, driver_for=app.driver)
    if app.flags.json:
        show_json({"machines": [one.to_json() for one in found]})
    elif app.flags.quiet:
        show_text(*(one.name for one in found))
    elif found:
        show_table(
            ("NAME", "STATE", "CPUS", "MEMORY", "DISK", "ADDRESS", "TEMPLATE", "IMAGE"), [_row(s) for s in found]
        )
        for one in found:
            if one.note:
                say(f"{one.name}: {one.note}", app.flags)
    else:
        say("no machines yet; hint: vmkit create kiro-vm", app.flags)


def _row(one: Status) -> tuple[str, ...]:
    machine = one.machine
    if machine is None:
        return (one.name, str(one.state), *["-"] * 6)
    return (
        one.name,
        str(one.state),
        str(machine.cpus),
        show_size(machine.memory_mib << 20),
        show_size(machine.disk_bytes),
        f"{one.address[0]}:{one.address[1]}" if one.address else "-",
        machine.template,
        machine.image,
    )
