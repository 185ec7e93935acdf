#!/usr/bin/env python3
# kirosim: a stand-in for the Kiro CLI, for tests and demos. It is not Kiro and reaches no Kiro service.
"""Stand in for `kiro-cli`, `kiro-cli-chat`, `kiro-cli-term`, `q` and `qchat`, by the name it is started under.

What it prints is what the real one was recorded to print; `tests/kirosim/README.md` says from which facts.
`kiro-cli kirosim` says what this is. Standard library only.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import tty
import urllib.error
import urllib.parse
import urllib.request

VERSION = "0.0.0"  # written by the mirror
SERVICE = ""  # written by the mirror
TARGET = ""  # written by the mirror

HERE = pathlib.Path(__file__).absolute().parent
NAME = pathlib.Path(sys.argv[0]).name
IS_CHAT = NAME in {"kiro-cli-chat", "qchat"}
BUILDER_START_URL = "https://view.awsapps.com/start"
FRAMES = ("▰▱▱▱▱▱▱", "▰▰▱▱▱▱▱", "▰▰▰▱▱▱▱", "▰▰▰▰▱▱▱", "▰▰▰▰▰▱▱", "▰▰▰▰▰▰▱", "▰▰▰▰▰▰▰", "▰▱▱▱▱▱▱")
MENU = ("Use with Builder ID", "Use with Google", "Use with GitHub", "Use with Your Organization")
PORTAL_PORTS = (3128, 4649, 6588, 8008, 9091, 49153, 50153, 51153, 52153, 53153)
SCOPES = "codewhisperer:completions codewhisperer:analysis codewhisperer:conversations"


class Failure(Exception):  # noqa: N818  # an outcome, not a bug of this program
    """Ends the program with 1 and `error: …`."""


# --- terminal -----------------------------------------------------------------------------------


def styled(text, sgr, stream):
    """Colour as anstream does: only on a terminal, and not with NO_COLOR or TERM=dumb."""
    plain = not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{sgr}m{text}\x1b[0m"


def say(text="", *, to=None, end="\n"):
    stream = to or sys.stdout
    stream.write(text + end)
    stream.flush()


class Spinner:
    """Frames every 100 ms on stdout, terminal or not; the cursor codes are raw, as the real one's are."""

    def __init__(self, text):
        self.text, self.ended = text, threading.Event()
        say("\x1b[?25l", end="")
        self.thread = threading.Thread(target=self.spin, daemon=True)
        self.thread.start()

    def spin(self):
        number = 0
        while True:
            say(f"\r{FRAMES[number % len(FRAMES)]}{self.text}", end="")
            number += 1
            if self.ended.wait(0.1):
                return

    def stop(self):
        self.ended.set()
        self.thread.join()
        say("\x1b[?25h", end="")

    def stop_with(self, message):
        self.ended.set()
        self.thread.join()
        say(f"\x1b[2K\r{message}\n\x1b[?25h", end="")


@contextlib.contextmanager
def raw_keys():
    with open(sys.stdin.fileno() if sys.stdin.isatty() else "/dev/tty", "rb", buffering=0, closefd=False) as keys:
        before = termios.tcgetattr(keys.fileno())
        tty.setcbreak(keys.fileno())
        try:
            yield lambda: next_key(keys.fileno())
        finally:
            termios.tcsetattr(keys.fileno(), termios.TCSADRAIN, before)


TYPED = bytearray()  # ahead of the prompt that will want it


def next_key(descriptor):
    """Return one key: a character, or an escape sequence whole."""
    if not TYPED:
        TYPED.extend(os.read(descriptor, 1024) or b"\x1b")
    key = re.match(rb"\x1b[\[O][0-9;]*[A-Za-z~]|[\xc0-\xff][\x80-\xbf]*|.", bytes(TYPED), re.DOTALL)[0]
    del TYPED[: len(key)]
    return key


def choose(prompt, items):
    """A dialoguer menu on stderr; without a terminal on stdout the first entry is taken, silently."""
    if not sys.stdout.isatty():
        return 0
    err, at = sys.stderr, 0
    say(f"\x1b[?25l{styled('?', 33, err)} {styled(prompt, 1, err)} {styled('›', '38;5;8', err)}", to=err)  # noqa: RUF001  # the real sign
    with raw_keys() as read:
        while True:
            for number, item in enumerate(items):
                line = f"{styled('❯', 32, err)} {styled(item, 36, err)}" if number == at else f"  {item}"  # noqa: RUF001  # the real sign
                say(line, to=err)
            key = read()
            say(f"\x1b[{len(items)}A\r\x1b[0J", to=err, end="")
            if key in {b"\x1b", b"q"}:
                say("\x1b[1A\x1b[2K\x1b[?25h", to=err, end="")
                return None
            if key in {b"\r", b"\n", b" "}:
                break
            at = (at + {b"\x1b[A": -1, b"\x1bOA": -1, b"k": -1, b"\x1b[B": 1, b"\x1bOB": 1, b"j": 1}.get(key, 0)) % len(
                items
            )
    say(
        f"\x1b[1A\x1b[2K{styled('✔', 32, err)} {styled(prompt, 1, err)} {styled('·', '38;5;8', err)} "
        f"{styled(items[at], 32, err)}\x1b[?25h",
        to=err,
    )
    return at


def ask(prompt, prefilled):
    """A dialoguer input with editable, prefilled text; without a terminal on stdout it is empty, whatever was given."""
    if not sys.stdout.isatty():
        return ""
    err, text = sys.stderr, prefilled
    head = f"{styled('?', 33, err)} {styled(prompt, 1, err)} {styled('›', '38;5;8', err)} "  # noqa: RUF001  # the real sign
    with raw_keys() as read:
        while True:
            say(f"\r\x1b[2K{head}{text}", to=err, end="")
            key = read()
            if key in {b"\r", b"\n"}:
                break
            if key in {b"\x7f", b"\x08"}:
                text = text[:-1]
            elif not key.startswith(b"\x1b"):
                text += key.decode("utf-8", "ignore")
    say(
        f"\r\x1b[2K{styled('✔', 32, err)} {styled(prompt, 1, err)} {styled('·', '38;5;8', err)} {styled(text, 32, err)}",
        to=err,
    )
    return text.strip()


# --- what is kept -------------------------------------------------------------------------------


def data_file():
    share = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return pathlib.Path(share) / "kiro-cli" / "data.sqlite3"


@contextlib.contextmanager
def database():
    import sqlite3  # noqa: PLC0415  # python3-minimal lacks it, and --version must work there

    path = data_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path)
    try:
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS auth_kv (key TEXT PRIMARY KEY, value TEXT)")
            connection.execute("CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value BLOB)")
            yield connection
    finally:
        connection.close()


def put(table, key, value):
    with database() as connection:
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, json.dumps(value)))


def get(table, key):
    if not data_file().exists():
        return None
    with database() as connection:
        row = connection.execute(f"SELECT value FROM {table} WHERE key = ?", (key,)).fetchone()
    return json.loads(row[0]) if row else None


def stored_login():
    return get("auth_kv", "kirocli:odic:token") or get("auth_kv", "kirocli:social:token")


def settings_file():
    return pathlib.Path(os.environ.get("KIRO_HOME") or os.path.expanduser("~/.kiro")) / "settings" / "cli.json"


# --- the service --------------------------------------------------------------------------------


def service():
    """`KIROSIM_SERVICE`, else the file `kirosim-service` beside this one, else what the mirror wrote in."""
    beside = HERE / "kirosim-service"
    address = os.environ.get("KIROSIM_SERVICE") or (beside.read_text().strip() if beside.exists() else "") or SERVICE
    return address.rstrip("/")


def call(path, *, form=None, body=None, token=None):
    """Ask the simulated service; return status and JSON. Three tries, as the AWS SDK makes."""
    data = None
    headers = {"Accept": "application/json"}
    if form is not None:
        data = urllib.parse.urlencode(form).encode()
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    if token:
        headers["Authorization"] = f"Bearer {token}"
    # As the real one: through HTTPS_PROXY. A service over plain HTTP is on this computer or the next.
    proxies = {kind: address for kind, address in urllib.request.getproxies().items() if kind == "https"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    for attempt in range(3):
        try:
            request = urllib.request.Request(service() + path, data=data, headers=headers)
            with opener.open(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            try:
                return error.code, json.load(error)
            except ValueError:
                raise Failure("service error") from None
        except (OSError, ValueError) as error:
            if attempt == 2:
                reason = getattr(error, "reason", error)
                raise Failure(f"dispatch failure (io error): {reason}") from None
            time.sleep(0.1)
    raise AssertionError


# --- login --------------------------------------------------------------------------------------


def is_remote():
    ssh = any(name in os.environ for name in ("SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY"))
    faked = any(name in os.environ for name in ("KIRO_FAKE_IS_REMOTE", "Q_FAKE_IS_REMOTE"))
    with contextlib.suppress(OSError):
        release = pathlib.Path("/proc/sys/kernel/osrelease").read_text().lower()
        return ssh or faked or "microsoft" in release or "wsl" in release
    return ssh or faked


def opener_worked(url):
    """Run `xdg-open`; the URL is swallowed when it exits 0 (the open bug of the real one)."""
    program = shutil.which("xdg-open")
    if not program:
        return False
    quiet = subprocess.DEVNULL
    return subprocess.run([program, url], stdin=quiet, stdout=quiet, stderr=quiet, check=False).returncode == 0


def login(arguments):
    if stored_login():
        command = styled("kiro-cli logout", 32 if not IS_CHAT else 35, sys.stderr)
        raise Failure(f"Already logged in, please logout with {command} first")
    remote = is_remote()
    if not remote and not arguments.use_device_flow:
        return portal()
    method = chosen_method(arguments)
    if method is None:
        raise Failure("No login method selected")
    if method in {1, 2}:
        return social("Google" if method == 1 else "GitHub")
    start_url, region = BUILDER_START_URL, "us-east-1"
    if method == 3:
        start_url = ask("Enter Start URL", arguments.identity_provider or get("state", "auth.idc.start-url") or "")
        region = ask("Enter Region", arguments.region or get("state", "auth.idc.region") or "")
        if not start_url or not re.fullmatch(r"[a-z0-9-]+", region):
            raise Failure("failed to construct request")
        put("state", "auth.idc.start-url", start_url)
        put("state", "auth.idc.region", region)
    device(start_url, region, remote=remote)
    if method == 3:
        choose_profile()
    if not IS_CHAT:
        say("Logged in successfully", to=sys.stderr)
    return 0


def chosen_method(arguments):
    """Return an index into MENU, or None; `free` goes to Builder ID without a menu."""
    if arguments.license == "free":
        return 0
    if arguments.license == "pro" or (arguments.identity_provider and arguments.region):
        return 3
    return choose("Select login method", MENU)


def device(start_url, region, *, remote):
    """RFC 8628 for Builder ID and Identity Center."""
    status, client = call("/register", body={"client_name": "Kiro CLI", "client_type": "public", "scope": SCOPES})
    if status >= 300:
        raise Failure("service error")
    put("auth_kv", "kirocli:odic:device-registration", {**client, "region": region, "oauth_flow": "DeviceCode"})
    asked = {"client_id": client["client_id"], "scope": SCOPES, "start_url": start_url}
    status, grant = call("/device_authorization", form=asked)
    if status >= 300:
        raise Failure("service error")
    code = grant["user_code"]
    say()
    say("Confirm the following code in the browser")
    say(f"Code: {styled(code, 35 if IS_CHAT else 1, sys.stdout)}")
    say()
    if remote or not opener_worked(grant["verification_uri_complete"]):
        say(f"Open this URL: {grant['verification_uri_complete']}")
    spinner = Spinner(" Logging in...")
    try:
        token = wait_for_token(client["client_id"], grant)
    except Failure:
        spinner.stop()
        raise
    kept = {
        "access_token": token["access_token"],
        "refresh_token": token["refresh_token"],
        "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + token["expires_in"])),
        "region": region,
        "start_url": start_url,
        "oauth_flow": "DeviceCode",
        "scopes": SCOPES.split(),
    }
    put("auth_kv", "kirocli:odic:token", kept)
    spinner.stop_with("Logged in" if IS_CHAT else "Device authorized")


def wait_for_token(client_id, grant):
    """Poll until the service decides: only `authorization_pending` goes on, `slow_down` too ends it, as in the real one."""
    while True:
        time.sleep(grant.get("interval", 1))
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": grant["device_code"],
            "client_id": client_id,
        }
        status, answer = call("/token", form=form)
        if status == 200:
            return answer
        if answer.get("error") != "authorization_pending":
            raise Failure("service error")


def social(provider):
    """Google and GitHub: the URL comes before the code, and the client has a deadline of its own."""
    status, grant = call("/oauth/device/authorization", body={"clientId": "kiro-cli", "loginProvider": provider})
    if status >= 300:
        raise Failure("Device flow error: service error")
    say()
    say(f"To sign in with {provider}, visit:")
    say(f"  {grant['verificationUriComplete']}")
    say()
    say(f"And confirm the code: {styled(grant['userCode'], 35 if IS_CHAT else 1, sys.stdout)}")
    say()
    spinner = Spinner(" Waiting for authorization...")
    try:
        answer = wait_for_social(grant)
    except Failure:
        spinner.stop()
        raise
    put(
        "auth_kv",
        "kirocli:social:token",
        {
            "access_token": answer["accessToken"],
            "refresh_token": answer["refreshToken"],
            "provider": provider,
        },
    )
    spinner.stop_with(f"Signed in with {provider}")
    return 0


def wait_for_social(grant):
    """Poll until the service decides or the client's own deadline passes."""
    deadline = time.monotonic() + grant["expiresInMilliseconds"] / 1000
    while True:
        time.sleep(grant["intervalInMilliseconds"] / 1000)
        _, answer = call("/oauth/device/poll", body={"clientId": "kiro-cli", "deviceCode": grant["deviceCode"]})
        state = answer.get("status")
        if state == "authorized":
            return answer
        if state == "expired_token" or time.monotonic() > deadline:
            raise Failure("Device code expired. Please try again.")
        if state != "authorization_pending":
            raise Failure(f"Device flow error: {state}")


def portal():
    """The local flow: it wants a browser on this machine, and falls back on nothing."""
    listener = None
    for port in PORTAL_PORTS:
        with contextlib.suppress(OSError):
            listener = socket.create_server(("127.0.0.1", port))
            break
    if listener is None:
        raise Failure("No available port")
    spinner = Spinner(" Opening browser... | Press (^) + C to cancel")
    with listener:
        url = f"https://app.kiro.dev/signin?redirect_uri=http://localhost:{listener.getsockname()[1]}&redirect_from=kirocli"
        if not opener_worked(url):
            spinner.stop()
            say("Failed to open browser for authentication.")
            say("Please try again with: kiro-cli login --use-device-flow")
            raise Failure("No such file or directory (os error 2)")
        listener.settimeout(600)
        with contextlib.suppress(TimeoutError):
            listener.accept()[0].close()
    spinner.stop()
    raise Failure("kirosim does not simulate the browser portal")


def choose_profile():
    spinner = Spinner(" Fetching profiles...")
    token = stored_login() or {}
    try:
        _, answer = call("/profiles", token=token.get("access_token", ""))
    except Failure:
        spinner.stop()
        raise
    spinner.stop_with("")
    profiles = answer.get("profiles", [])
    if not profiles:
        raise Failure("No profiles available. Please contact your administrator.")
    at = 0
    if len(profiles) > 1:
        active = (get("state", "api.codewhisperer.profile") or {}).get("arn")
        lines = [f"{one['name']} (arn: {one['arn']}){' (active)' * (one['arn'] == active)}" for one in profiles]
        at = choose("Select an IAM Identity Center profile", lines)
        if at is None:
            say(f"No selection made, defaulting to {profiles[0]['name']}", to=sys.stderr)
            at = 0
    put("state", "api.codewhisperer.profile", {"arn": profiles[at]["arn"], "profile_name": profiles[at]["name"]})


# --- the other commands -------------------------------------------------------------------------


def email_of(token):
    with contextlib.suppress(Failure):
        status, answer = call("/userinfo", token=token.get("access_token", ""))
        return answer.get("email") if status == 200 else None
    return None


def whoami(arguments):
    token = stored_login()
    if token is None and os.environ.get("KIRO_API_KEY"):
        return show(arguments.format, "Authenticated with API key", {"accountType": "ApiKey"})
    if token is None:
        show(arguments.format, "Not logged in", {"account": None})
        return 1
    email = email_of(token)
    if "provider" in token:
        plain = f"Logged in with {token['provider']}"
        account = {
            "accountType": {"Google": "SocialGoogle", "GitHub": "SocialGithub"}[token["provider"]],
            "email": email,
        }
    elif token["start_url"] == BUILDER_START_URL:
        plain = "Logged in with Builder ID"
        account = {"accountType": "BuilderId", "startUrl": BUILDER_START_URL, "region": token["region"], "email": email}
    else:
        plain = f"Logged in with IAM Identity Center ({token['start_url']})"
        account = {
            "accountType": "IamIdentityCenter",
            "startUrl": token["start_url"],
            "region": token["region"],
            "email": email,
        }
    show(arguments.format, plain + (f"\nEmail: {email}" if email else ""), account)
    profile = get("state", "api.codewhisperer.profile")
    if account["accountType"] == "IamIdentityCenter" and profile:
        say(f"\nProfile:\n{profile['profile_name']}\n{profile['arn']}")  # after the JSON too: the real one's trap
    return 0


def show(form, plain, value):
    if form == "json":
        say(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
    elif form == "json-pretty":
        say(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        say(plain)
    return 0


def logout(_):
    if data_file().exists():
        with database() as connection:
            connection.execute("DELETE FROM auth_kv")
            connection.execute("DELETE FROM state WHERE key = 'api.codewhisperer.profile'")
    say("You are now logged out", to=sys.stderr)
    say(f"Run {styled('kiro-cli login', 35, sys.stderr)} to log back in to Kiro CLI", to=sys.stderr)
    return 0


def profile(_):
    token = stored_login()
    if token is None or token.get("start_url") in {None, BUILDER_START_URL}:
        raise Failure("This command is only available for Pro users")
    choose_profile()
    return 0


def settings(arguments):
    path = settings_file()
    values = json.loads(path.read_text()) if path.exists() else {}
    if arguments.value is None:
        if arguments.key not in values:
            raise Failure(f"No value associated with {arguments.key}")
        say(json.dumps(values[arguments.key]))
        return 0
    try:
        values[arguments.key] = json.loads(arguments.value)
    except ValueError:
        values[arguments.key] = arguments.value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2))
    say("Successfully set setting", to=sys.stderr)
    return 0


def chat(arguments):
    """In the launcher: hand over to the sibling binary. In the sibling: a conversation with nobody."""
    signed_in = stored_login() is not None or bool(os.environ.get("KIRO_API_KEY"))
    quiet = arguments.no_interactive or not sys.stdin.isatty()
    if not IS_CHAT:
        return launch_chat(welcome=not signed_in and not quiet)
    if not signed_in:
        say("Not logged in. Set the KIRO_API_KEY environment variable or run `kiro-cli login` first.", to=sys.stderr)
        return 1
    if quiet:
        return reply(" ".join(arguments.prompt) or sys.stdin.read().strip())
    return converse(" ".join(arguments.prompt), trusting=arguments.trust_all_tools)


def launch_chat(*, welcome):
    if welcome:
        say("Welcome to Kiro CLI, let's get you signed in!")
        say("Press enter to continue to the browser or esc to cancel")
        with raw_keys() as read:
            if read() not in {b"\r", b"\n"}:
                return 1
        login(argparse.Namespace(license=None, identity_provider=None, region=None, use_device_flow=False))
    sibling = HERE / "kiro-cli-chat"
    if not sibling.exists():
        raise Failure("No such file or directory (os error 2)")
    sys.stdout.flush()
    os.execv(sibling, [str(sibling), *sys.argv[1:]])
    return 1


def converse(first, *, trusting):
    say("kirosim: this is a stand-in for Kiro CLI; nobody answers here. /quit or Ctrl-D ends it.")
    if trusting:
        say("All tools are now trusted (!). The simulation runs none.")
    for prompt in itertools.chain([first], iter(lambda: next_line("> "), None)):
        if prompt.strip() in {"/quit", "/exit", "/q"}:
            break
        if prompt.strip():
            reply(prompt.strip())
    return 0


def next_line(prompt):
    try:
        return input(prompt)
    except EOFError:
        say()
        return None


def reply(prompt):
    text = f"kirosim: a simulated reply to: {prompt}"
    if service().startswith("https:"):  # it is where the real one is, behind TLS: then chat needs it too
        _, answer = call("/chat", body={"prompt": prompt}, token=(stored_login() or {}).get("access_token", ""))
        text = answer.get("reply", "")
    say(f"\x1b[38;5;141m> \x1b[0m{text}")  # the real one colours piped output too
    say(" ▸ Credits: 0.00 • Time: 0s", to=sys.stderr)
    return 0


def update(_):
    say(f"No updates available, {VERSION} is the latest version.")
    return 0


def setup(arguments):
    if not arguments.no_confirm:
        say("Do you want kiro to modify your shell config (you will have to manually do this otherwise)?")
        if not sys.stdin.isatty() or input().strip().lower() not in {"", "y", "yes"}:
            return 1
    return 0


def about(_):
    say(
        json.dumps(
            {"kirosim": "a stand-in for Kiro CLI, not Kiro", "version": VERSION, "target": TARGET, "service": service()}
        )
    )
    return 0


# --- command line -------------------------------------------------------------------------------


def parser():
    top = argparse.ArgumentParser(prog=NAME, allow_abbrev=False)
    top.add_argument("--version", "-V", action="version", version=f"{NAME} {VERSION}")
    commands = top.add_subparsers(dest="command")
    add_user_commands(commands)
    add_user_commands(commands.add_parser("user").add_subparsers(dest="user_command", required=True))
    one = commands.add_parser("settings")
    one.add_argument("key")
    one.add_argument("value", nargs="?")
    one.set_defaults(run=settings)
    one = commands.add_parser("update")
    one.add_argument("-y", "--non-interactive", action="store_true")
    one.set_defaults(run=update)
    one = commands.add_parser("setup")
    one.add_argument("--no-confirm", action="store_true")
    one.add_argument("--force", action="store_true")
    one.set_defaults(run=setup)
    commands.add_parser("kirosim").set_defaults(run=about)
    one = commands.add_parser("chat")
    add_chat_arguments(one)
    return top


def add_user_commands(commands):
    one = commands.add_parser("login", allow_abbrev=False)
    one.add_argument("--license", choices=("free", "pro"))
    one.add_argument("--identity-provider")
    one.add_argument("--region")
    one.add_argument("--use-device-flow", action="store_true")
    one.add_argument("-v", "--verbose", action="count")
    one.set_defaults(run=login)
    one = commands.add_parser("whoami")
    one.add_argument("-f", "--format", choices=("plain", "json", "json-pretty"), default="plain")
    one.set_defaults(run=whoami)
    commands.add_parser("logout").set_defaults(run=logout)
    commands.add_parser("profile").set_defaults(run=profile)


def add_chat_arguments(one):
    one.add_argument("prompt", nargs="*")
    one.add_argument("-r", "--resume", action="store_true")
    for name in ("--agent", "--model", "--trust-tools", "--resume-id", "--agent-engine", "--effort", "-w"):
        one.add_argument(name)
    one.add_argument("-a", "--trust-all-tools", action="store_true")
    one.add_argument("--no-interactive", "--non-interactive", action="store_true")
    for name in ("--tui", "--legacy-ui", "--classic", "--v2", "--v3", "--require-mcp-startup"):
        one.add_argument(name, action="store_true")
    one.set_defaults(run=chat)


def main():
    signal.signal(signal.SIGINT, lambda *_: os._exit(1))  # Ctrl-C ends with 1, not 130
    arguments = parser().parse_args(sys.argv[1:] or ["chat"])
    try:
        return arguments.run(arguments)
    except Failure as failure:
        say(f"{styled('error:', 31, sys.stderr)} {failure}", to=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
