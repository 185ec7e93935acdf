"""The publishers' lists of digests."""

import hashlib

import pytest

from vmkit.errors import Refused
from vmkit.images.fetch import parse_sums

ONE, TWO = (hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))


def parsed(content: str, algorithm: str = "sha256") -> str:
    return parse_sums(content.encode(), file_name="a.img", algorithm=algorithm)


@pytest.mark.parametrize("mark", [" ", "*"])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_digest_of_the_file_is_found_among_others(mark, end):
    assert parsed(f"{TWO} {mark}b/a.img\n{TWO} {mark}a.img.zst\n{ONE.upper()} {mark}a.img{end}") == f"sha256:{ONE}"


def test_the_same_line_twice_is_no_contradiction():
    assert parsed(f"{ONE}  a.img\n{ONE} *a.img\n") == f"sha256:{ONE}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f"{TWO}  b.img\n", 'no digest for "a.img"'),
        (f"{ONE}  a.img\n{TWO}  a.img\n", "two digests"),
        ("", "holds none"),
        ("a.img\n", "holds none"),
        (f"SHA256 (a.img) = {ONE}\n", "holds none"),
        ("<!DOCTYPE html><title>Log in</title>", "is a web page"),
        (f"{hashlib.sha512(b'one').hexdigest()}  a.img\n", "is no sha256"),
        (f"{ONE[:40]}  a.img\n", "is no sha256"),
    ],
)
def test_a_list_that_does_not_say_is_refused(content, why):
    with pytest.raises(Refused, match=why):
        parsed(content)
