"""The login's reader: what Kiro prints, honest and hostile, in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kiro.test_verification import HOSTILE
from vmkit.errors import Refused
from vmkit.kiro.login import MAX_LINE_CHARS, MAX_OUTPUT_BYTES, LoginReader, Prompt
from vmkit.kiro.verification import Method, Wanted, checked_wish

CODE = "ABCD-EFGH"
URL = f"https://view.awsapps.com/start/#/device?user_code={CODE}"
FREE = Wanted()
PRO = checked_wish("pro", identity_provider="https://acme.awsapps.com/start", region="eu-west-1")
FULL, EMPTY = "\u25b0", "\u25b1"
SPINNER = "".join(f"\r{FULL * n}{EMPTY * (7 - n)} Logging in..." for n in range(8))
BUILDER_ID = (
    f"\nConfirm the following code in the browser\nCode: \x1b[1m{CODE}\x1b[0m\n\nOpen this URL: {URL}\n\x1b[?25l"
)
SOCIAL = (
    "\nTo sign in with Google, visit:\n"
    f"  https://app.kiro.dev/account/device?user_code={CODE}&login_provider=Google\n"
    f"\nAnd confirm the code: {CODE}\n\n\r\u25b0\u25b1 Waiting for authorization..."
)
MENU = (
    "\x1b[?25l? Select login method \u203a\n\u276f Use with Builder ID\n  Use with Google\n"
    "  Use with GitHub\n  Use with Your Organization\n"
)
CODE_ONLY = f"Confirm the following code in the browser\nCode: {CODE}\n"


def read(text, wanted=FREE):
    reader = LoginReader(wanted)
    reader.feed(text.encode())
    return reader


def read_out(reader, content, *, step):
    for start in range(0, len(content), step):
        reader.feed(content[start : start + step])
    reader.end()


@pytest.mark.parametrize("code", [CODE, f"\x1b[35m{CODE}\x1b[0m", f"\x1b[38;5;13m\x1b[1m{CODE}\x1b[m"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_code_and_its_url_make_a_prompt(code, newline):
    text = BUILDER_ID.replace(f"\x1b[1m{CODE}\x1b[0m", code) + SPINNER

    assert read(text.replace("\n", newline)).prompt == Prompt(code=CODE, url=URL)


def test_a_code_whose_url_was_swallowed_makes_a_prompt_once_kiro_waits():
    before = read(CODE_ONLY).prompt

    assert before is None
    assert read(CODE_ONLY + SPINNER + "\r").prompt == Prompt(code=CODE, url=URL)


def test_a_code_after_which_nothing_comes_makes_a_prompt_when_the_caller_says_so():
    reader = read(CODE_ONLY)

    reader.settle()

    assert reader.prompt == Prompt(code=CODE, url=URL)


def test_nothing_makes_no_prompt_however_long_one_waits():
    reader = read("one moment\n" + SPINNER)

    reader.settle()

    assert reader.prompt is None


def test_a_social_login_prints_its_url_first():
    reader = read(SOCIAL, Wanted(method=Method.GOOGLE))

    assert reader.prompt == Prompt(
        code=CODE, url=f"https://app.kiro.dev/account/device?user_code={CODE}&login_provider=Google"
    )


def test_the_menu_is_walked_to_the_method_that_was_asked_for():
    keys = {method: read(MENU, Wanted(method=method)).take_keys() for method in (Method.GOOGLE, Method.GITHUB)}

    assert keys == {Method.GOOGLE: b"\x1b[B\r", Method.GITHUB: b"\x1b[B\x1b[B\r"}


def test_a_menu_without_the_method_is_told():
    reader = read(
        "? Select login method \u203a\n\u276f Use with Builder ID\n  Use with IDC Account\n",
        Wanted(method=Method.GOOGLE),
    )

    assert reader.take_keys() == b""
    assert reader.offers == ("Use with Builder ID", "Use with IDC Account")


def test_both_questions_of_identity_center_are_answered_once():
    reader = LoginReader(PRO)
    pressed = []
    for text in (
        "? Enter Start URL \u203a https://acme.awsapps.com/start",
        "\r\x1b[2K\u2714 Enter Start URL \u00b7 https://acme.awsapps.com/start\n",
        "? Enter Region \u203a eu-west-1",
        "\r\x1b[2K\u2714 Enter Region \u00b7 eu-west-1\n",
        f"Code: {CODE}\nOpen this URL: https://acme.awsapps.com/start/#/device?user_code={CODE}\n",
    ):
        reader.feed(text.encode())
        pressed.append(reader.take_keys())

    assert pressed == [b"\r", b"", b"\r", b"", b""]
    assert reader.prompt == Prompt(code=CODE, url=PRO.url(CODE))


def test_a_profile_is_chosen_once():
    text = "? Select an IAM Identity Center profile \u203a\n\u276f one (arn: x) (active)\n  two (arn: y)\n"

    assert read(text + text, PRO).take_keys() == b"\r"


def test_a_repeated_prompt_is_the_same_prompt():
    assert read(BUILDER_ID + SPINNER + BUILDER_ID + SPINNER).prompt == Prompt(code=CODE, url=URL)


@pytest.mark.parametrize("split", [1, 2, 3, 5, 7, 64], ids=lambda size: f"{size} bytes")
def test_how_it_is_cut_makes_no_difference(split):
    content = (BUILDER_ID + SPINNER).encode()
    reader = LoginReader(FREE)
    for start in range(0, len(content), split):
        reader.feed(content[start : start + split])

    assert reader.prompt == Prompt(code=CODE, url=URL)


def test_the_url_may_be_cut_anywhere():
    content = (BUILDER_ID + SPINNER).encode()
    for at in range(len(content)):
        reader = LoginReader(FREE)
        reader.feed(content[:at])
        reader.feed(content[at:])
        assert reader.prompt == Prompt(code=CODE, url=URL), at


def test_what_is_kept_of_its_words_is_no_spinner():
    reader = read(BUILDER_ID + SPINNER + "\r\x1b[2K" + "error: service error\n")

    assert reader.said[-1] == "error: service error"
    assert not any("Logging" in line for line in reader.said)


HOSTILE_OUTPUT = {
    **{f"url {number}": f"Code: {CODE}\nOpen this URL: {url}\n" for number, url in enumerate(HOSTILE)},
    **{f"url first {number}": f"Open this URL: {url}\nCode: {CODE}\n" for number, url in enumerate(HOSTILE)},
    "carriage return over the host": f"Code: {CODE}\nOpen this URL: https://evil.example/x\rOpen this URL: {URL}\n",
    "carriage return over the code": f"Code: WXYZ-WXYZ\rCode: {CODE}\nOpen this URL: {URL}\n",
    "two codes": f"Code: {CODE}\nCode: WXYZ-WXYZ\n",
    "second prompt": BUILDER_ID + SPINNER + BUILDER_ID.replace(CODE, "WXYZ-WXYZ"),
    "late foreign url": BUILDER_ID + SPINNER + "\rplease visit https://evil.example/ instead\n",
    "code with a tail": f"Code: {CODE} or WXYZ-WXYZ\n",
    "bidi in the code": "Code: ABCD-\u202eHGFE\n",
    "zero width in the code": "Code: ABCD-\u200bEFGH\n",
    "lower case code": "Code: abcd-efgh\n",
    "look-alike code": "Code: \u0410BCD-EFGH\n",
    "link with another target": f"Code: {CODE}\n\x1b]8;;https://evil.example/\x07{URL}\x1b]8;;\x07\n",
    "link ended by ST": f"Code: {CODE}\n\x1b]8;id=1;https://evil.example/\x1b\\{URL}\x1b]8;;\x1b\\\n",
    "link alone on its line": f"\x1b]8;;https://evil.example/\x07\x1b]8;;\x07\nCode: {CODE}\n",
    "foreign start url": "? Enter Start URL \u203a https://evil.awsapps.com/start",
    "social page for a builder id": SOCIAL,
    "script": f"Code: {CODE}\nOpen this URL: javascript:alert(1)\n",
    "no scheme": f"Code: {CODE}\nOpen this URL: view.awsapps.com.evil.example\n",
    "two urls in a line": f"Code: {CODE}\nOpen this URL: {URL} https://evil.example/\n",
    "a megabyte in a line": "A" * (1 << 20),
    "a line that never ends": "\x1b[31m" * 10_000,
}


@pytest.mark.parametrize("text", HOSTILE_OUTPUT.values(), ids=HOSTILE_OUTPUT)
def test_a_hostile_login_ends_with_the_reason_and_its_words_made_harmless(text):
    reader = LoginReader(FREE)

    with pytest.raises(Refused) as caught:
        read_out(reader, text.encode(), step=1 << 20)

    assert (caught.value.detail or "").isprintable()
    assert reader.prompt in (None, Prompt(code=CODE, url=URL))


@pytest.mark.parametrize("text", list(HOSTILE_OUTPUT.values())[::5], ids=list(HOSTILE_OUTPUT)[::5])
def test_a_hostile_login_ends_byte_by_byte_too(text):
    reader = LoginReader(FREE)

    with pytest.raises(Refused):
        read_out(reader, text.encode(), step=1)


def test_output_without_end_is_refused():
    reader = LoginReader(FREE)
    block = SPINNER.encode() * 100

    with pytest.raises(Refused, match="MiB"):
        read_out(reader, block * (MAX_OUTPUT_BYTES // len(block) + 1), step=1 << 16)


def test_the_longest_line_is_read():
    assert read("x" * MAX_LINE_CHARS + "\n").prompt is None


@given(st.binary(max_size=300), st.integers(1, 9))
def test_no_bytes_make_a_prompt_but_of_their_own_code(content, step):
    """Whatever the guest prints, what is shown is a code and the one URL made of it."""
    reader = LoginReader(FREE)
    try:
        for start in range(0, len(content), step):
            reader.feed(content[start : start + step])
        reader.end()
        reader.settle()
    except Refused:
        return
    assert reader.prompt is None or reader.prompt.url == FREE.url(reader.prompt.code)


def test_an_error_on_the_spinners_line_is_kept():
    reader = read(BUILDER_ID + SPINNER + "error: service error\n")

    assert reader.said[-1] == "error: service error"
