"""Manifests from elsewhere: each field that could do harm is changed in turn."""

import json

import pytest

from vmkit.errors import Refused, UsageError
from vmkit.images.layout import (
    CHUNK_TYPE,
    CONFIG_TYPE,
    KERNEL_TYPE,
    LENGTH,
    OFFSET,
    Blob,
    Boot,
    Chunk,
    ImageMeta,
    choose_chunk_bytes,
    digest_of,
    parse_manifest,
    parse_reference,
    render_config,
    render_manifest,
)

META = ImageMeta(arch="aarch64", boot=Boot.DIRECT, user="agent", created="2026-01-02T03:04:05Z")
ZERO = "sha256:" + "0" * 64
CHUNK_BYTES = 4 << 20


def parts() -> tuple[dict, dict]:
    chunks = tuple(
        Chunk(
            offset=offset,
            length=CHUNK_BYTES,
            raw_digest=ZERO,
            blob=Blob(media_type=CHUNK_TYPE, digest=ZERO, size=10),
        )
        for offset in (0, CHUNK_BYTES)
    )
    config = render_config(META, virtual_bytes=2 * CHUNK_BYTES, chunk_bytes=CHUNK_BYTES, chunks=chunks)
    manifest = render_manifest(
        config=Blob(media_type=CONFIG_TYPE, digest=digest_of(config), size=len(config)),
        kernel=Blob(media_type=KERNEL_TYPE, digest=ZERO, size=3),
        initrd=None,
        chunks=chunks,
    )
    return json.loads(manifest), json.loads(config)


def parse(manifest: dict, config: dict):
    return parse_manifest(json.dumps(manifest).encode(), json.dumps(config).encode())


def test_what_was_rendered_is_read_back():
    read = parse(*parts())

    assert read.meta == META
    assert [chunk.offset for chunk in read.chunks] == [0, CHUNK_BYTES]
    assert read.initrd is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("arch", "m68k"),
        ("boot", "network"),
        ("user", "root;reboot"),
        ("user", "-x"),
        ("kernel_arguments", 'init="/bin/sh"'),
        ("kernel_arguments", "a\nb"),
        ("virtual_bytes", 0),
        ("virtual_bytes", -1),
        ("virtual_bytes", 3 << 40),
        ("virtual_bytes", True),
        ("virtual_bytes", 1.5),
        ("chunk_bytes", 3),
        ("chunk_bytes", 1 << 40),
        ("content_digest", "md5:0"),
        ("created", "\x1b[31m"),
        ("packages", "all"),
    ],
)
def test_a_config_value_out_of_bounds_is_refused(key, value):
    manifest, config = parts()

    with pytest.raises(Refused):
        parse(manifest, config | {key: value})


@pytest.mark.parametrize(
    "change",
    [
        {OFFSET: "1"},
        {OFFSET: "-4194304"},
        {OFFSET: str(8 << 20)},
        {OFFSET: "0"},
        {LENGTH: "4194303"},
        {LENGTH: "0"},
        {OFFSET: "9" * 30},
        {OFFSET: 0},
    ],
)
def test_a_chunk_that_lies_elsewhere_is_refused(change):
    manifest, config = parts()
    manifest["layers"][2]["annotations"] |= change

    with pytest.raises(Refused):
        parse(manifest, config)


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha256:../../x"},
        {"digest": "sha512:" + "0" * 64},
        {"size": 1 << 40},
        {"size": -1},
        {"size": "3"},
        {"mediaType": "application/x-sh"},
    ],
)
def test_a_layer_that_is_not_as_ours_is_refused(change):
    manifest, config = parts()
    manifest["layers"][0] |= change

    with pytest.raises(Refused):
        parse(manifest, config)


def test_a_second_kernel_is_refused():
    manifest, config = parts()
    manifest["layers"].append(manifest["layers"][0])

    with pytest.raises(Refused):
        parse(manifest, config)


def test_direct_boot_without_a_kernel_is_refused():
    manifest, config = parts()
    del manifest["layers"][0]

    with pytest.raises(Refused, match="boots its own kernel"):
        parse(manifest, config)


def test_another_kind_of_artifact_is_refused():
    manifest, config = parts()

    with pytest.raises(Refused, match="not a vmkit image"):
        parse(manifest | {"artifactType": "application/vnd.oci.empty.v1+json"}, config)


@pytest.mark.parametrize("virtual_bytes", [1, 8 << 30, 64 << 30, 2 << 40])
def test_a_manifest_of_full_chunks_fits_a_registry(virtual_bytes):
    chunk_bytes = choose_chunk_bytes(virtual_bytes)

    blob = Blob(media_type=CHUNK_TYPE, digest=ZERO, size=chunk_bytes)
    one = Chunk(offset=virtual_bytes, length=chunk_bytes, raw_digest=ZERO, blob=blob)
    assert (virtual_bytes // chunk_bytes + 1) * (len(json.dumps(one.descriptor())) + 1) < 4 << 20


def test_a_tag_is_latest_unless_given():
    assert parse_reference("debian-13") == "debian-13:latest"
    assert parse_reference("debian-13:V1.2_x") == "debian-13:V1.2_x"


def test_a_hostile_name_is_shown_harmless():
    with pytest.raises(UsageError) as caught:
        parse_reference("\x1b[2J")

    assert "\x1b" not in caught.value.message
