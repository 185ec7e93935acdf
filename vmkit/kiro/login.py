"""Follow what `kiro-cli login` prints: bytes in, the one prompt to show and the keys to press out.

Nothing here touches a terminal or a guest. What the guest prints is hostile: it may claim any code and any URL, so a
prompt is shown once, made of checked parts, and whatever does not fit it ends the login. Output as of Kiro CLI 2.22.
"""

import codecs
import re
from collections import deque
from dataclasses import dataclass

from vmkit.errors import Refused
from vmkit.host.text import printable
from vmkit.kiro.verification import CODE, Method, Wanted, why_refused

MAX_LINE_CHARS = 4096
MAX_OUTPUT_BYTES = 8 << 20  # ten frames of a spinner a second make 0.3 MiB in ten minutes

_STRING = re.compile(r"\x1b[\]PX^_](?P<content>[^\x07\x1b]*)(?:\x07|\x1b\\|\Z)?")
_CSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]")
_CODE_LINE = re.compile(r"(?:^Code:|\bconfirm the code:)\s*(?P<code>\S*)")
_URL_LINE = re.compile(r"^Open this URL:\s*(?P<url>.*)$")
_SIGN_IN = re.compile(r"^To sign in with \S+, visit:$")
_WAITING = re.compile(r"(?:Logging in|Waiting for authorization)\.\.\.")
_CHOSEN = re.compile(r"^(?P<mark>[\u276f>])?\s*(?P<item>Use (?:with|for) .{1,60})$")
_CARET = "\u203a"  # after a question that waits for its answer
_DOWN, _ENTER = b"\x1b[B", b"\r"
_ITEMS = {Method.GOOGLE: "Google", Method.GITHUB: "GitHub"}


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the user is asked to confirm in a browser."""

    code: str
    url: str


class LoginReader:
    """Feed it the output of `kiro-cli login` in any pieces.

    `prompt` is set once it is safe to show, and never changes; `take_keys` returns what Kiro waits for.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.prompt: Prompt | None = None
        self.said: deque[str] = deque(maxlen=12)
        self._wanted = wanted
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._line = ""
        self._read_bytes = 0
        self._code: str | None = None
        self._url: str | None = None
        self._url_follows = False
        self._menu: list[str] | None = None
        self._current = 0
        self._asked: set[str] = set()
        self._keys = b""

    def feed(self, output: bytes) -> None:
        """Read on. Raises Refused, saying what was seen and why, for output that no honest login makes."""
        self._read_bytes += len(output)
        if self._read_bytes > MAX_OUTPUT_BYTES:
            raise Refused(f"the guest's login printed more than {MAX_OUTPUT_BYTES >> 20} MiB")
        pieces = re.split(r"([\r\n])", self._decode(output))
        for piece in pieces:
            if piece in ("\r", "\n"):
                line, self._line = self._line, ""
                self._read_line(line)
                continue
            self._line += piece
            if len(self._line) > MAX_LINE_CHARS:
                raise Refused(
                    f"the guest's login printed a line of more than {MAX_LINE_CHARS} characters",
                    detail=printable(self._line, max_chars=200),
                )
        self._read_unfinished(self._line)

    def settle(self) -> None:
        """Take what has come for all there is: Kiro has printed its code, and waits."""
        self._make_prompt()

    def end(self) -> None:
        """Read the last line: nothing more will come."""
        line, self._line = self._line, ""
        self._read_line(line)

    def take_keys(self) -> bytes:
        """Return the keys to press now."""
        keys, self._keys = self._keys, b""
        return keys

    def _read_line(self, raw: str) -> None:
        links = [match["content"] for match in _STRING.finditer(raw)]
        line = _visible(raw)
        if not line and not any("://" in link for link in links):
            return
        word = _WAITING.split(line)[-1].strip()  # an error comes on the spinner's line
        if word and (not self.said or self.said[-1] != word):
            self.said.append(word)
        for link in links:  # a link whose text says something else
            for url in _urls(link):
                self._saw_url(url.rpartition(";")[2], line)
        self._read_prompts(line)
        self._read_code(line)
        self._read_urls(line)
        self._read_menu(line)
        if _WAITING.search(line):
            self._make_prompt()

    def _read_code(self, line: str) -> None:
        if not (match := _CODE_LINE.search(line)):
            return
        code = match["code"]
        if not CODE.fullmatch(code) or line.partition(match.group())[2].strip():
            raise _hostile("the guest printed something else than a code", line)
        if self._code not in (None, code):
            raise _hostile(f"the guest printed a second code, {code} after {self._code}", line)
        self._code = code
        if self._url:
            self._saw_url(self._url, line)

    def _read_urls(self, line: str) -> None:
        if _is_question(line):
            return
        found = _urls(line)
        if match := _URL_LINE.search(line):
            found = [match["url"].strip()]
        elif self._url_follows and line:
            self._url_follows = False
            found = [line]
        if _SIGN_IN.search(line):
            self._url_follows = True
        for url in found:
            self._saw_url(url, line)

    def _saw_url(self, url: str, line: str) -> None:
        reason = why_refused(url, wanted=self._wanted, code=self._code)
        if reason:
            raise _hostile(f"the guest printed a URL that is not of this login: {reason}", line or url)
        if self._url and CODE.findall(self._url) != CODE.findall(url):
            raise _hostile("the guest printed a second URL, with another code", line)
        self._url = url
        if self._code:
            self._make_prompt()

    def _make_prompt(self) -> None:
        if self._code and not self.prompt:
            self.prompt = Prompt(code=self._code, url=self._wanted.url(self._code))

    def _read_prompts(self, line: str) -> None:
        """Refuse an organisation that the user did not name; what Kiro repeats of ours is no URL to open."""
        if _is_question(line):
            for url in _urls(line):
                if url.rstrip("/") != (self._wanted.start_url or "").rstrip("/"):
                    raise _hostile("the guest asks about another organisation", line)

    def _read_unfinished(self, raw: str) -> None:
        """Answer what waits on an unfinished line: the two questions of Identity Center, prefilled with ours."""
        line = _visible(raw)
        for question in ("Enter Start URL", "Enter Region"):
            if question in line and _CARET in line and question not in self._asked:
                if self._wanted.method is not Method.PRO:
                    raise _hostile("the guest asks for an organisation, and none was asked for", line)
                self._asked.add(question)
                self._keys += _ENTER

    def _read_menu(self, line: str) -> None:
        if "Select an IAM Identity Center profile" in line and "profile" not in self._asked:
            self._asked.add("profile")
            self._keys += _ENTER  # the one that is active, or the first
        if "Select login method" in line and self._menu is None:
            self._menu = []
            return
        if self._menu is None or "menu" in self._asked or not (match := _CHOSEN.search(line)):
            return
        if match["mark"]:
            self._current = len(self._menu)
        self._menu.append(match["item"])
        wanted = _ITEMS.get(self._wanted.method, "Builder ID")
        if wanted in match["item"]:
            self._asked.add("menu")
            self._keys += _DOWN * (len(self._menu) - 1 - self._current) + _ENTER

    @property
    def offers(self) -> tuple[str, ...] | None:
        """The login methods that Kiro's menu has shown, while it has not shown the wanted one."""
        return tuple(self._menu) if self._menu is not None and "menu" not in self._asked else None


def _is_question(line: str) -> bool:
    return line.startswith(("?", "✔")) and "Enter Start URL" in line


def _urls(text: str) -> list[str]:
    return [word for word in text.split() if "://" in word]


def _visible(raw: str) -> str:
    """Return the text of a line: no sequences, and for other control characters one that no code and no URL holds."""
    text = _CSI.sub("", _STRING.sub("", raw)).replace("\t", " ")
    return "".join(character if character >= " " and character != "\x7f" else "\ufffd" for character in text).strip()


def _hostile(what: str, line: str) -> Refused:
    return Refused(what, detail=printable(line, max_chars=300), hint="do not confirm any code; look at: vmkit logs")
