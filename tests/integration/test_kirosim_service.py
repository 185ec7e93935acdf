"""The authorization service answers as RFC 8628 says."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from tests.kirosim.server import Server
from tests.kirosim.service import BUILDER_START_URL, DEVICE_GRANT, Authorization, Decision, Service, random_user_code


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clock: Clock) -> Service:
    return Service(lifetime_s=600, interval_s=5, clock=clock)


@pytest.fixture
def asked(service: Service) -> Authorization:
    return service.authorize("client", start_url=BUILDER_START_URL)


def poll(service: Service, asked: Authorization) -> str:
    return service.poll(asked.client_id, asked.device_code)[0]


def test_poll_is_pending_until_somebody_decides(service: Service, asked: Authorization, clock: Clock) -> None:
    assert poll(service, asked) == "authorization_pending"
    clock.now = 5
    assert poll(service, asked) == "authorization_pending"


def test_approval_is_given_out_once(service: Service, asked: Authorization, clock: Clock) -> None:
    service.decide(asked.user_code, Decision.APPROVED)

    assert poll(service, asked) == "approved"
    clock.now = 5
    assert poll(service, asked) == "invalid_grant"


def test_poll_that_comes_too_soon_is_slowed_down_for_good(service: Service, asked: Authorization, clock: Clock) -> None:
    answers = []
    for clock.now in (0, 2, 9, 24):  # 9 would do for the interval of 5, but not for the 10 it is now
        answers.append(poll(service, asked))

    assert answers == ["authorization_pending", "slow_down", "slow_down", "authorization_pending"]
    assert asked.interval_s == 15


def test_denial_stays(service: Service, asked: Authorization, clock: Clock) -> None:
    service.decide(asked.user_code, Decision.DENIED)

    assert poll(service, asked) == "access_denied"
    assert not service.decide(asked.user_code, Decision.APPROVED)


def test_code_runs_out(service: Service, asked: Authorization, clock: Clock) -> None:
    clock.now = 600

    assert poll(service, asked) == "expired_token"
    assert not service.decide(asked.user_code, Decision.APPROVED)
    assert service.pending() == []


def test_device_code_belongs_to_its_client(service: Service, asked: Authorization) -> None:
    assert service.poll("another", asked.device_code)[0] == "invalid_grant"
    assert service.poll(asked.client_id, asked.user_code)[0] == "invalid_grant"


def test_user_codes_are_letters_that_spell_nothing() -> None:
    code = random_user_code()

    assert len(code) == 9
    assert set(code) <= set("BCDFGHJKLMNPQRSTVWXZ-")
    assert code[4] == "-"


@pytest.mark.parametrize(
    ("start_url", "provider", "url"),
    [
        (BUILDER_START_URL, None, "https://view.awsapps.com/start/#/device?user_code="),
        ("https://d-1.awsapps.com/start/", None, "https://d-1.awsapps.com/start/#/device?user_code="),
        ("", "GitHub", "https://app.kiro.dev/account/device?user_code="),
    ],
)
def test_url_has_the_form_of_the_real_one(service: Service, start_url: str, provider: str | None, url: str) -> None:
    assert service.authorize("client", start_url=start_url, provider=provider).complete_url.startswith(url)


@pytest.fixture
def server(service: Service) -> Iterator[Server]:
    with Server(service=service) as running:
        yield running


def post(server: Server, path: str, **form: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(server.address + path, data=urllib.parse.urlencode(form).encode())
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_flow_over_http(server: Server, service: Service, clock: Clock) -> None:
    _, client = post(server, "/register", client_name="x")
    client_id = str(client["client_id"])
    status, grant = post(server, "/device_authorization", client_id=client_id, start_url=BUILDER_START_URL)
    form = {"grant_type": DEVICE_GRANT, "client_id": client_id, "device_code": str(grant["device_code"])}
    first = post(server, "/token", **form)
    decided = post(server, "/kirosim/decide", user_code=str(grant["user_code"]), decision="approved")
    clock.now = 5
    second = post(server, "/token", **form)

    assert (status, grant["expires_in"], grant["interval"]) == (200, 600, 5)
    assert first == (400, {"error": "authorization_pending"})
    assert decided == (200, {"decided": True})
    assert second[0] == 200
    assert {"access_token", "refresh_token", "expires_in", "token_type"} == set(second[1])


def test_wrong_requests_are_told_so(server: Server) -> None:
    assert post(server, "/device_authorization", client_id="nobody", start_url=BUILDER_START_URL)[0] == 401
    assert post(server, "/token", grant_type=DEVICE_GRANT, client_id="nobody", device_code="x")[0] == 401
    assert post(server, "/token", grant_type="password") == (400, {"error": "unsupported_grant_type"})
    assert post(server, "/nothing")[0] == 404
    assert post(server, "/kirosim/decide", user_code="NONE-NONE", decision="approved")[0] == 404


def test_page_shows_a_code_as_text_only(server: Server, service: Service) -> None:
    with urllib.request.urlopen(server.address + "/device?user_code=%3Cscript%3Ealert(1)%3C/script%3E") as answer:
        html = answer.read().decode()

    assert "<script" not in html
    assert "kirosim" in html
    assert "No login waits with that code." in html


def test_files_outside_the_mirror_are_not_served(server: Server, tmp_path: object) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(server.address + "/stable/..%2f..%2fetc/passwd")
