"""What of a login reaches the terminal: a frame of ours and, for a hostile guest, an error without a control character."""

import io

import pytest

from tests.unit.kiro.test_login import CODE, HOSTILE_OUTPUT, URL
from vmkit.cli.flags import Flags
from vmkit.cli.login import frame, qr_code
from vmkit.cli.render import show_error
from vmkit.errors import Refused
from vmkit.kiro.login import LoginReader, Prompt
from vmkit.kiro.verification import Wanted

PROMPT = Prompt(code=CODE, url=URL)


@pytest.mark.parametrize("text", HOSTILE_OUTPUT.values(), ids=HOSTILE_OUTPUT)
def test_a_hostile_login_shows_no_control_character_and_exits_with_6(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = LoginReader(Wanted())
    with pytest.raises(Refused) as caught:
        reader.feed(f"{text}\n".encode())

    code = show_error(caught.value, Flags())

    shown = capsys.readouterr().err + (frame(reader.prompt, machine="a", host="h") if reader.prompt else "")
    assert code == 6
    assert all(character.isprintable() for character in shown.replace("\n", ""))


def test_at_least_eighty_hostile_logins_are_tried() -> None:
    assert len(set(HOSTILE_OUTPUT.values())) >= 80


def test_the_frame_holds_what_a_person_has_to_compare() -> None:
    drawn = frame(PROMPT, machine="kiro-vm", host="view.awsapps.com")

    assert len({len(line) for line in drawn.split("\n")}) == 1
    for words in (CODE, "  ".join("ABCD\u2013EFGH"), URL, '"kiro-vm"', "the address is view.awsapps.com", "Kiro CLI"):
        assert words in drawn


def test_the_qr_code_is_drawn_of_blocks_alone() -> None:
    drawn = qr_code(URL)

    assert set(drawn) <= set(" \n\u2580\u2584\u2588")
    assert len(io.StringIO(drawn).readlines()) > 10
