"""Identities: fresh each time, written as the framework writes them, decoded before they are believed."""

import base64
import plistlib

import pytest

from vmkit.bundle.mac_platform import (
    HardwareModel,
    generic_identifier,
    hardware_model,
    machine_identifier,
    make_generic_identifier,
    make_machine_identifier,
    read_generic_identifier,
    read_hardware_model,
    read_machine_identifier,
)
from vmkit.errors import Refused

# As Virtualization.framework itself wrote them, published with other people's machines.
MODEL_12 = "YnBsaXN0MDDTAQIDBAUGXxAZRGF0YVJlcHJlc2VudGF0aW9uVmVyc2lvbl8QD1BsYXRmb3JtVmVyc2lvbl8QEk1pbmltdW1TdXBwb3J0ZWRPUxQAAAAAAAAAAAAAAAAAAAABEAKjBwgIEAwQAAgPKz1SY2VpawAAAAAAAAEBAAAAAAAAAAkAAAAAAAAAAAAAAAAAAABt"
MODEL_13 = "YnBsaXN0MDDTAQIDBAUGXxAZRGF0YVJlcHJlc2VudGF0aW9uVmVyc2lvbl8QD1BsYXRmb3JtVmVyc2lvbl8QEk1pbmltdW1TdXBwb3J0ZWRPUxQAAAAAAAAAAAAAAAAAAAABEAKjBwgIEA0QAAgPKz1SY2VpawAAAAAAAAEBAAAAAAAAAAkAAAAAAAAAAAAAAAAAAABt"
IDENTIFIER = "YnBsaXN0MDDRAQJURUNJRBMcS7NwwIaUuwgLEAAAAAAAAAEBAAAAAAAAAAMAAAAAAAAAAAAAAAAAAAAZ"


@pytest.mark.parametrize(("encoded", "minimum"), [(MODEL_12, (12, 0, 0)), (MODEL_13, (13, 0, 0))])
def test_a_hardware_model_of_the_framework_s_is_read(encoded: str, minimum: tuple[int, ...]) -> None:
    model = read_hardware_model(base64.b64decode(encoded))

    assert model == HardwareModel(minimum_os=minimum, platform_version=2, representation=1)


@pytest.mark.parametrize(
    ("guest", "encoded"), [((12, 6), MODEL_12), ((13,), MODEL_13), ((13, 0, 1), MODEL_13), ((26, 4), MODEL_13)]
)
def test_a_model_of_ours_says_what_the_framework_s_says(guest: tuple[int, ...], encoded: str) -> None:
    assert read_hardware_model(hardware_model(guest)) == read_hardware_model(base64.b64decode(encoded))


def test_an_identifier_of_the_framework_s_is_read_and_would_be_written_so() -> None:
    content = base64.b64decode(IDENTIFIER)

    ecid = read_machine_identifier(content)

    assert machine_identifier(ecid) == content


def test_every_machine_gets_an_identity_of_its_own() -> None:
    assert len({read_machine_identifier(make_machine_identifier()) for _ in range(100)}) == 100
    assert len({read_generic_identifier(make_generic_identifier()) for _ in range(100)}) == 100


def test_a_generic_identifier_holds_its_bytes() -> None:
    assert read_generic_identifier(generic_identifier(bytes(range(16)))) == bytes(range(16))


def binary(content: object) -> bytes:
    return plistlib.dumps(content, fmt=plistlib.FMT_BINARY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"bplist00",
        plistlib.dumps({"ECID": 1}),
        binary([1]),
        binary({}),
        binary({"ECID": "1"}),
        binary({"ECID": True}),
        binary({"ECID": 0}),
        binary({"ECID": -1}),
        binary({"ECID": 1, "padding": b"x" * 5000}),
        base64.b64decode(MODEL_13),
    ],
)
def test_what_is_no_identifier_is_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        read_machine_identifier(content)


@pytest.mark.parametrize(
    "content",
    [
        base64.b64decode(IDENTIFIER),
        binary({"DataRepresentationVersion": 1, "PlatformVersion": 2}),
        binary({"DataRepresentationVersion": 1, "PlatformVersion": 2, "MinimumSupportedOS": []}),
        binary({"DataRepresentationVersion": 1, "PlatformVersion": 2, "MinimumSupportedOS": ["13"]}),
        binary({"DataRepresentationVersion": 1, "MinimumSupportedOS": [13, 0, 0]}),
        binary({"PlatformVersion": 2, "MinimumSupportedOS": [13, 0, 0]}),
        base64.b64decode(MODEL_13)[:-1],
    ],
)
def test_what_is_no_hardware_model_is_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        read_hardware_model(content)


@pytest.mark.parametrize("content", [binary({"UUID": b"short"}), binary({"UUID": "text"}), binary({"ECID": 1})])
def test_what_is_no_generic_identifier_is_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        read_generic_identifier(content)
