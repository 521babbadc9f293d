"""A browser for the tests of pages."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1400,900"]  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install 'tinyflow-dl[test]'"
    )
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in [*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


class Page:
    """What a test does to a page."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def all(self, css: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", css))

    def one(self, css: str) -> Any:
        return self.browser.find_element("css selector", css)

    def js(self, text: str) -> Any:
        return self.browser.execute_script(text)

    def box(self, label: str) -> Any:
        return next(b for b in self.all(".box") if b.get_attribute("aria-label").startswith(label))

    def stage(self, name: str) -> None:
        self.one(f'#tabs [data-stage="{name}"]').click()

    def fact(self, name: str) -> str:
        return str(self.one(f'#panel [data-fact="{name}"]').text)

    def keys(self, css: str, text: str) -> None:
        self.one(css).send_keys(text)

    def view(self) -> str:
        return str(self.one("#world").get_attribute("transform"))

    def settled(self) -> str:
        """The camera, once it stands still."""
        before = ""
        while before != (before := self.view()):
            time.sleep(0.1)
        return before


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[[Path], Page]]:
    """Opens a file; no test may leave an error, or have reached for the network."""
    browser.get_log("browser"), browser.get_log("performance")

    def opened(path: Path) -> Page:
        browser.get(path.as_uri())
        return Page(browser)

    yield opened
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [
        p["request"]["url"] for p in sent if p["documentURL"].startswith("file:")
    ]  # the browser's first tab asks for its own
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)
