"""All that is known of an image, as text."""

from vmkit.cli.render import say, show_pairs, show_table, show_text
from vmkit.cli.tools import Tools
from vmkit.host.sizes import show_size
from vmkit.host.text import printable
from vmkit.images.channels import is_channel
from vmkit.images.provenance import ImagePolicy
from vmkit.workflows.image_facts import ImageFacts, SignatureFacts
from vmkit.workflows.image_vulnerabilities import Vulnerabilities, Vulnerability


def show_facts(facts: ImageFacts, tools: Tools) -> None:
    """Write what is known of an image to standard output."""
    image, meta = facts.image, facts.manifest.meta
    lock, seal = meta.lock, meta.seal
    pairs = {
        "name": image.name,
        "tag": "a channel, which may be moved" if is_channel(image.name) else "fixed",
        "digest": image.digest,
        "age": f"{facts.age} ({image.created})",
        "release": image.release or "-",
        "architecture": image.arch,
        "boot": str(image.boot),
        "user": image.user,
        "disk": f"{show_size(image.virtual_bytes)}, of which {facts.chunks} chunks hold data",
        "stored": f"{show_size(image.stored_bytes)}, of which other images share {show_size(facts.shared_bytes)}",
        "packages": str(len(meta.packages)) if meta.packages else "no list of them",
        "base": lock.base if lock else "-",
        "renewal of": (lock.refreshed_from if lock else "") or "-",
        "template": (lock.template if lock else "") or "-",
        "Kiro CLI": f"{lock.kiro_version} ({lock.kiro_digest[:19]})" if lock and lock.kiro_version else "-",
        "recipes": ", ".join(f"{name} ({digest[7:19]})" for name, digest in lock.recipes) if lock else "-",
        "network": _policy(meta.policy) if meta.policy else "as its user says",
        "sealed": f"{show_size(seal.scanned_bytes)} scanned for secrets by rules {seal.rules}" if seal else "no",
        "signed by": ", ".join(facts.signers) or "nobody you trust",
        "used by": ", ".join(facts.used_by) or "no machine",
    }
    show_pairs({key: printable(value) for key, value in pairs.items()})
    for signature in facts.signatures:
        show_text(printable(_signature(signature)))
    if lock is None:
        say("what it was made from is not recorded: it was not saved from a machine", tools.flags)


def show_vulnerabilities(known: Vulnerabilities, tools: Tools) -> None:
    """Write the packages with known vulnerabilities, or why they are not known."""
    if known.found is None:
        show_text(printable(f"vulnerabilities: not known: {known.reason}"))
        return
    if not known.is_complete:
        say("the image does not name its packages' sources: some vulnerabilities are not found", tools.flags)
    packages = known.by_package
    count, where = len({one.id for one in known.found}), f"{len(packages)} package{'s' if len(packages) != 1 else ''}"
    show_text(f"vulnerabilities: {count} known, in {where}, of Debian {known.suite}")
    if packages:
        show_table(("PACKAGE", "VERSION", "KNOWN", "FIXED", "WORST"), [_row(one) for one in packages.values()])


def _row(found: tuple[Vulnerability, ...]) -> tuple[str, ...]:
    worst = found[0]  # they are sorted
    fixed = sum(one.is_fixed for one in found)
    return worst.package, worst.version, str(len(found)), str(fixed), f"{worst.id} {worst.urgency}".rstrip()


def _policy(policy: ImagePolicy) -> str:
    allowed = f", allowed {', '.join(policy.allow)}" if policy.allow else ""
    denied = f", denied {', '.join(policy.deny)}" if policy.deny else ""
    return f"{policy.mode} at most{allowed}{denied}"


def _signature(signature: SignatureFacts) -> str:
    who = " ".join(word for word in (signature.signer or "unknown", signature.fingerprint) if word)
    until = f", until {signature.expires}" if signature.expires else ""
    why = f": {signature.why}" if signature.why else ""
    return f"signature by {who}{until}: {signature.verdict}{why}"
