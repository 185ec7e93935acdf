"""Push an image to a registry or a folder, and pull one: the user's settings and credentials meet the transfer."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import UsageError
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.settings import Settings
from vmkit.images.layout import Image, parse_reference
from vmkit.images.remote.base import Repository
from vmkit.images.remote.credentials import Credential, DockerCredentials
from vmkit.images.remote.reference import FolderReference, RegistryReference, Remote, local_name, parse_remote
from vmkit.images.remote.transport import Endpoint
from vmkit.images.store import ImageStore
from vmkit.workflows.scan_disk import scan_disk

_SERVERS = {"docker.io": "registry-1.docker.io"}  # Docker Hub's names have no server of their own

FindCredential = Callable[[str], Credential | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Transferred:
    """An image that is now at both sides. `remote` names it by digest: that cannot come to mean another."""

    name: str
    remote: str
    pinned: str
    digest: str
    moved_bytes: int
    kept_bytes: int
    moved_parts: int
    kept_parts: int
    signatures: int


def endpoint_of(remote: RegistryReference, settings: Settings) -> Endpoint:
    """Return how a registry is reached, as `config.toml` says. Raises UsageError for settings that do not fit."""
    said = settings.registry.get(remote.host, {})
    plain_http, ca_file = said.get("plain_http"), said.get("ca_file")
    return Endpoint(
        host=_SERVERS.get(remote.host, remote.host),
        plain_http=bool(plain_http) if plain_http is not None else None,
        ca_file=Path(str(ca_file)).expanduser() if ca_file else None,
    )


@contextlib.contextmanager
def opened(
    remote: Remote,
    *,
    settings: Settings,
    runner: Runner,
    writing: bool,
    mount_from: Mapping[str, str] | None = None,
    find_credential: FindCredential | None = None,
) -> Iterator[Repository]:
    """Give the repository that `remote` is in, as `config.toml` says it is reached, with docker's credentials.

    Raises Absent for a folder that is none, UsageError for settings that do not fit. Nothing is asked yet.
    """
    if isinstance(remote, FolderReference):
        from vmkit.images.remote.folder import FolderRepository  # noqa: PLC0415  # one of the two is needed

        yield FolderRepository(remote.path, make=writing)
        return
    from vmkit.images.remote.registry import RegistryRepository  # noqa: PLC0415  # as above
    from vmkit.images.remote.transport import Transport  # noqa: PLC0415  # as above

    endpoint = endpoint_of(remote, settings)
    lent = [f"repository:{other}:pull" for other in sorted(set((mount_from or {}).values()))]
    scopes = (f"repository:{remote.repository}:{'pull,push' if writing else 'pull'}", *lent)
    find = find_credential or DockerCredentials.of_user(runner=runner).find
    transport = Transport(endpoint, scopes=scopes, find_credential=find)
    try:
        yield RegistryRepository(transport, remote.repository, mount_from=mount_from)
    finally:
        transport.close()


def push_image(
    reference: str,
    target: str,
    *,
    images: ImageStore,
    settings: Settings,
    runner: Runner,
    report: Report,
    never_move_tag: bool = False,
    seal: bool = True,
    find_credential: FindCredential | None = None,
) -> Transferred:
    """Copy an image of the store to a registry or a folder. What is there already is not sent; the tag moves last.

    With `seal`, an image that was not scanned when it was saved is scanned now, and refused for what is found.
    Raises UsageError, NotFound, Refused, Unreachable, Denied, RegistryFailed.
    """
    from vmkit.images.remote.seen import lenders, remember  # noqa: PLC0415  # only a push needs what comes with it
    from vmkit.images.remote.signatures import send_signatures  # noqa: PLC0415  # as above
    from vmkit.images.remote.transfer import push  # noqa: PLC0415  # as above

    name, remote = parse_reference(reference), parse_remote(target)
    digest = images.digest(name)  # before anybody is asked
    if isinstance(remote, RegistryReference) and not remote.tag:
        raise UsageError(f'"{remote}" has no tag: an image is pushed under one', hint=f"{remote.host}/NAME:TAG")
    if seal and images.manifest(digest).meta.seal is None:
        found = scan_disk(images.get(name, report=report).disk, runner=runner, report=report)
        if found.findings:
            raise found.refusal(
                f'the image "{name}" holds what looks like secrets; nothing was sent', hint="vmkit image push --no-seal"
            )
    version = (remote.name or name) if isinstance(remote, FolderReference) else remote.version
    mount_from = lenders(images, remote) if isinstance(remote, RegistryReference) else {}
    with opened(
        remote,
        settings=settings,
        runner=runner,
        writing=True,
        mount_from=mount_from,
        find_credential=find_credential,
    ) as repository:
        moved = push(name, store=images, to=repository, version=version, report=report, never_move_tag=never_move_tag)
        signatures = send_signatures(moved.digest, images=images, to=repository)
    if isinstance(remote, RegistryReference):
        remember(images, remote, moved.digest)
    return Transferred(
        name=name,
        remote=str(remote),
        pinned=_pinned(remote, moved.digest),
        digest=moved.digest,
        moved_bytes=moved.moved_bytes,
        kept_bytes=moved.kept_bytes,
        moved_parts=moved.moved_parts,
        kept_parts=moved.kept_parts,
        signatures=signatures,
    )


def pull_image(
    source: str,
    reference: str | None,
    *,
    images: ImageStore,
    settings: Settings,
    runner: Runner,
    report: Report,
    find_credential: FindCredential | None = None,
) -> tuple[Image, Transferred]:
    """Copy an image from a registry or a folder to the store, under its own name unless another is given.

    Raises UsageError, Absent, Refused, Unreachable, Denied, HostLacks (space).
    """
    from vmkit.images.remote.seen import remember  # noqa: PLC0415  # as above
    from vmkit.images.remote.signatures import bring_signatures  # noqa: PLC0415  # as above
    from vmkit.images.remote.transfer import pull  # noqa: PLC0415  # as above

    remote = parse_remote(source)
    if reference is not None:
        parse_reference(reference)
    with opened(remote, settings=settings, runner=runner, writing=False, find_credential=find_credential) as repository:
        if isinstance(remote, FolderReference):
            from vmkit.images.remote.folder import FolderRepository  # noqa: PLC0415  # as above

            if not remote.name and isinstance(repository, FolderRepository):
                remote = FolderReference(path=remote.path, name=repository.only_name())
            version = remote.name
        else:
            version = remote.version
        name = reference or local_name(remote, digest=version)
        parse_reference(name)  # before anything is fetched
        image, moved = pull(name, store=images, source=repository, version=version, report=report)
        signatures = bring_signatures(moved.digest, images=images, source=repository)
    if isinstance(remote, RegistryReference):
        remember(images, remote, moved.digest)
    done = Transferred(
        name=image.name,
        remote=str(remote),
        pinned=_pinned(remote, moved.digest),
        digest=moved.digest,
        moved_bytes=moved.moved_bytes,
        kept_bytes=moved.kept_bytes,
        moved_parts=moved.moved_parts,
        kept_parts=moved.kept_parts,
        signatures=signatures,
    )
    return image, done


def _pinned(remote: Remote, digest: str) -> str:
    if isinstance(remote, FolderReference):
        return str(remote)
    return str(RegistryReference(host=remote.host, repository=remote.repository, digest=digest))
