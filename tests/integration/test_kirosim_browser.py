"""A real browser opens the page and decides; the simulated kiro-cli sees the outcome."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.kirosim.cli import Cli
from tests.kirosim.server import Server
from tests.kirosim.service import Decision, Service

_CHROMIUM, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=900,760",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (_CHROMIUM and _DRIVER) and not os.environ.get("CI"), reason="apt-get install chromium chromium-driver"
    ),
]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(service=Service(interval_s=0.2, new_code=lambda: "ABCD-EFGH")) as running:
        yield running


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    # Without scripts: the page must do without them.
    options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    options.binary_location = _CHROMIUM or ""
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
    driver.implicitly_wait(20)  # a click returns before the page it leads to is there
    try:
        yield driver
    finally:
        driver.quit()


@pytest.mark.parametrize(
    ("button", "heading", "code"), [("approve", "Request approved", 0), ("deny", "Request denied", 1)]
)
def test_login_ends_as_the_person_in_the_browser_decides(
    tmp_path: Path, server: Server, browser: webdriver.Chrome, button: str, heading: str, code: int
) -> None:
    cli = Cli(tmp_path / "home", service=server.address)

    with cli.terminal("login", "--license", "free", "--use-device-flow") as terminal:
        terminal.wait_for("user_code=ABCD-EFGH")
        browser.get(f"{server.address}/device?user_code=ABCD-EFGH")
        assert "kirosim" in browser.find_element(By.CLASS_NAME, "note").text
        assert browser.find_element(By.ID, "code").text == "ABCD-EFGH"
        assert browser.find_element(By.TAG_NAME, "h1").text == "Allow Kiro CLI to access your data?"
        browser.find_element(By.ID, button).click()
        assert browser.find_element(By.ID, "outcome").text == heading
        assert terminal.end() == code

    assert cli.run("whoami").returncode == code


def test_code_can_be_typed(server: Server, browser: webdriver.Chrome) -> None:
    server.service.authorize("client", start_url="https://view.awsapps.com/start")

    browser.get(f"{server.address}/start/")
    browser.find_element(By.ID, "user_code").send_keys("abcd-efgh")
    browser.find_element(By.ID, "continue").click()
    browser.find_element(By.ID, "approve").click()

    assert browser.find_element(By.ID, "outcome").text == "Request approved"
    found = server.service.find("ABCD-EFGH")
    assert found is not None
    assert found.decision is Decision.APPROVED
