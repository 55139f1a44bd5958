"""The page of `veilmatch web`, over real servers: its calls, and a person with a camera in Chromium."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

from tests.e2e.world import World
from veilmatch.client.models import cache_dir

WITHIN_S = 30


def started(world: World, *options: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """Return a page's process, and the address that it has printed."""
    command = [sys.executable, "-m", "veilmatch", "web", "--config", str(world.device_config), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#[\w-]{32}", line), process.stderr.read()
    return process, line


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    """What the command prints. Ctrl-C, or here SIGTERM, ends it."""
    process, line = started(world)
    yield line
    process.terminate()
    out, err = process.communicate(timeout=WITHIN_S)
    assert (out, process.returncode) == ("", 143)
    first, *others = err.strip().splitlines()
    assert first == "Open this address on this machine. Ctrl-C ends the page."
    assert all(line.startswith("the probe may not match its own person") for line in others)


@pytest.fixture(scope="module")
def photo(orl: Callable[[int, int], Path]) -> Callable[[int, int], bytes]:
    """A JPEG as a camera makes one, of an ORL photo."""

    def taken(person: int, number: int) -> bytes:
        face = Image.open(orl(person, number)).convert("RGB").resize((460, 560))
        whole, written = Image.new("RGB", (640, 560), (120, 120, 120)), io.BytesIO()
        whole.paste(face, (90, 0))
        whole.save(written, "JPEG", quality=95)
        return written.getvalue()

    return taken


def call(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    base, _, token = address.partition("#")
    request = urllib.request.Request(f"{base}api/{path}", body, {"Authorization": f"Bearer {token}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_calls_answer_what_the_command_line_does(
    world: World, address: str, photo: Callable[[int, int], bytes]
) -> None:
    status, said = call(address, "GET", "device")
    assert (status, said["device"], said["gallery"]) == (200, world.settings().device, "main")
    status, said = call(address, "GET", "parties")
    assert status == 200 and said["servers"] == {"a": True, "b": True, "c": True}

    assert call(address, "GET", "budgets") == (200, {"pair": "ab", "budgets": []}), "nothing is limited here"

    status, said = call(address, "POST", "look", photo(1, 1))
    assert status == 200 and said["good"] is True
    status, said = call(address, "POST", "enrol?subject=page%20one", photo(1, 1))
    assert (status, said["words"]) == (200, "page one is enrolled.")
    assert [view["party"].split()[0] for view in said["views"]] == ["matchers", "organisation"]
    _, again = call(address, "POST", "enrol?subject=page%20one", photo(1, 1))
    assert again["words"].endswith("It was there already, from the same photo.")

    for person, answer in ((1, True), (2, False)):
        status, said = call(address, "POST", "verify?subject=page%20one", photo(person, 5))
        assert (status, said["yes"]) == (200, answer)
        a, b, xor = (int(view["alt"]) for view in said["views"][-3:])
        assert a ^ b == xor == int(answer)
    status, said = call(address, "POST", "candidates", photo(1, 5))
    assert status == 200 and said["words"] == "This looks like page one."
    assert [call(address, "POST", "known", photo(person, 5))[1]["yes"] for person in (1, 2)] == [True, False]
    status, said = call(address, "GET", "subjects")
    assert {"subject": "page one", "templates": 1} in said["subjects"]
    assert call(address, "POST", "erase?subject=page%20one")[0] == 200
    status, said = call(address, "POST", "verify?subject=page%20one", photo(1, 5))
    assert (status, said["error"]["code"]) == (422, "unknown_subject") and said["error"]["hint"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("verify?subject=x", b"no image at all", 422, "image"),
        ("verify?subject=x", b"", 422, "image"),
        ("verify?subject=", b"photo", 422, "invalid_input"),
        ("enrol", b"photo", 422, "invalid_input"),
        ("enrol?subject=x", bytes(33 << 20), 422, "image"),
        ("candidates", b"\xff\xd8\xff\xe0half a photo", 422, "image"),
    ],
)
def test_what_is_no_photo_or_has_no_name_is_an_error_in_words(
    address: str, path: str, body: bytes, status: int, code: str
) -> None:
    got, said = call(address, "POST", path, body)
    assert (got, said["error"]["code"]) == (status, code) and said["error"]["hint"]


def test_a_photo_without_a_face_is_said_before_it_is_used(address: str) -> None:
    written = io.BytesIO()
    Image.new("RGB", (320, 240), (90, 120, 150)).save(written, "JPEG")
    status, said = call(address, "POST", "look", written.getvalue())
    assert status == 200 and said["good"] is False
    assert said["reasons"] and all(reason["what"] and reason["remedy"] for reason in said["reasons"])


# -- in a browser ----------------------------------------------------------------------------------------


@pytest.fixture
def browser(photo: Callable[[int, int], bytes], tmp_path: Path) -> Iterator[Any]:
    """Chromium, whose camera shows somebody: photo 5 of the first person."""
    with chromium(photo(1, 5), tmp_path) as started:
        yield started


@contextmanager
def chromium(frames: bytes, tmp_path: Path) -> Iterator[Any]:
    """Start Chromium with a camera that shows these JPEGs one after the other, and then from the beginning."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("Chromium and its driver are not installed: make chromium")
    (tmp_path / "camera.mjpeg").write_bytes(frames)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={tmp_path / 'camera.mjpeg'}",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()


def test_a_person_enrols_and_is_known_by_the_camera(
    address: str, browser: Any, photo: Callable[[int, int], bytes], tmp_path: Path
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def at(name: str) -> Any:
        return browser.find_element(By.ID, name)

    def until(condition: Callable[[Any], Any]) -> Any:
        return WebDriverWait(browser, WITHIN_S).until(condition)

    def answer() -> str:
        until(lambda _: at("result").get_attribute("class") in ("yes", "no", "failed"))
        return str(at("result").text)

    # As wide as a telephone: nothing is wider.
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    browser.get(address)
    until(lambda _: "device-1" in at("device").text)
    assert browser.current_url == address.partition("#")[0], "the token is out of the address"

    # Without a photo it says what to do. The tabs are walked through by keys.
    at("go").click()
    assert "There is no photo yet." in answer()
    at("tab-verify").send_keys(Keys.ARROW_LEFT)
    assert browser.switch_to.active_element.get_attribute("id") == "tab-enrol"
    assert at("tab-enrol").get_attribute("aria-selected") == "true" and at("go").text == "Enrol"

    (tmp_path / "me.jpg").write_bytes(photo(1, 1))
    at("file").send_keys(str(tmp_path / "me.jpg"))
    until(lambda _: "good enough" in at("quality").text)
    at("name").send_keys("camera person", Keys.ENTER)
    assert "camera person is enrolled." in answer()

    at("tab-verify").click()
    at("use-camera").click()
    until(lambda _: browser.execute_script("return document.getElementById('camera').videoWidth") > 0)
    at("go").click()
    assert "This is camera person." in answer()
    cards = browser.find_elements(By.CSS_SELECTOR, "#views li")
    assert [card.find_element(By.TAG_NAME, "h3").text.split()[0] for card in cards] == [
        "this", "matchers", "organisation", "key", "key", "this",
    ]  # fmt: skip
    assert all(image.get_attribute("alt") for image in browser.find_elements(By.CSS_SELECTOR, "main img"))
    width = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('button, input')].filter(e => !(e.textContent.trim() || e.ariaLabel"
        " || e.labels?.length)).map(e => e.id)"
    )
    assert unnamed == []

    at("list").click()
    until(lambda _: "camera person" in at("people").text)
    erase = next(b for b in browser.find_elements(By.CSS_SELECTOR, "#people button") if "camera" in b.accessible_name)
    erase.click()
    assert erase.text == "Erase for good"
    erase.click()
    until(lambda _: "camera person" not in at("people").text)
    # The policy of the page forbids nothing that it needs.
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_camera_is_looked_at_all_the_time_and_what_is_wrong_is_said_until_it_is_right(
    address: str, photo: Callable[[int, int], bytes], tmp_path: Path
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    written = io.BytesIO()
    Image.open(io.BytesIO(photo(1, 1))).filter(ImageFilter.GaussianBlur(14)).save(written, "JPEG")
    # Thirty a second: for four seconds each.
    frames = 120 * written.getvalue() + 120 * photo(1, 1)
    with chromium(frames, tmp_path) as browser:
        browser.get(address)
        browser.find_element(By.ID, "use-camera").click()
        role = browser.find_element(By.ID, "quality").get_attribute("role")
        assert role == "status", "a screen reader is told when it changes"

        def is_said(words: str, *remedies: str) -> bool:
            # At once: with the next look it may be something else.
            said, listed = browser.execute_script(
                "return [document.querySelector('#quality > p')?.textContent,"
                " [...document.querySelectorAll('#quality .reasons > li > span')].map(e => e.textContent)]"
            )
            return said == words and set(remedies) <= set(listed) and bool(remedies) == bool(listed)

        wait = WebDriverWait(browser, WITHIN_S, 0.1)
        wait.until(lambda _: is_said("Not good enough yet:", "show the whole face, uncovered and from the front"))
        labels = "return [...document.querySelectorAll('#scores meter')].map(e => e.ariaLabel)"
        assert {"sharpness", "unified quality score"} <= set(browser.execute_script(labels))
        wait.until(lambda _: is_said("✓ One face, good enough."))
        wait.until(lambda _: is_said("Not good enough yet:", "show the whole face, uncovered and from the front"))


def test_without_the_token_the_page_says_what_to_open(address: str, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(address.partition("#")[0])
    problem = browser.find_element(By.ID, "problem")
    WebDriverWait(browser, WITHIN_S).until(lambda _: problem.is_displayed())
    assert "Open the address that `veilmatch web` prints, all of it." in problem.text


class AnotherUser(BaseHTTPRequestHandler):
    """Who listens at the port of a page that has ended, and says yes to everything."""

    asked: list[str]

    def _answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        body = b'{"good": true, "reasons": [], "scores": {}, "subjects": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass


def at_port(port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """Listen at a port as soon as it is free."""
    ends = time.monotonic() + WITHIN_S
    while True:
        try:
            return ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError:
            assert time.monotonic() < ends
            time.sleep(0.001)


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_page_whose_server_has_ended_sends_no_photo_to_who_listens_there_next(
    world: World, browser: Any, end: str
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    process, line = started(world)
    handler = type("Handler", (AnotherUser,), {"asked": []})
    try:
        browser.get(line)
        wait = WebDriverWait(browser, WITHIN_S)
        wait.until(lambda _: "device-1" in browser.find_element(By.ID, "device").text)
        browser.find_element(By.ID, "use-camera").click()
        wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#scores li"))
        getattr(process, end)()
        server = at_port(int(line.split(":")[2].partition("/")[0]), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        problem = browser.find_element(By.ID, "problem")
        wait.until(lambda _: "has ended" in problem.text)
        before = len(handler.asked)
        # The camera looked every 0.7 s, and the state of the servers every 10 s.
        time.sleep(2.0)
        server.shutdown()
        server.server_close()
        assert len(handler.asked) == before
        if end == "terminate":
            assert handler.asked == []
        assert not browser.find_element(By.ID, "camera").is_displayed()
        assert browser.execute_script("return sessionStorage.length") == 0
    finally:
        process.kill()
        process.communicate()


def test_a_browser_is_opened_by_a_file_of_this_user(world: World, browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    seen, program = tmp_path / "seen", tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$@" > {seen}.new && mv {seen}.new {seen}\n')
    program.chmod(0o755)
    process, line = started(
        world, "--open", BROWSER=f"{program} %s", HOME=str(tmp_path), VEILMATCH_CACHE=str(cache_dir())
    )
    try:
        WebDriverWait(browser, WITHIN_S).until(lambda _: seen.exists())
        told = seen.read_text().strip()
        assert line.partition("#")[2] not in told, "every user of a machine sees what a program is started with"
        browser.get(told)
        WebDriverWait(browser, WITHIN_S).until(
            lambda _: (
                browser.current_url == line.partition("#")[0]
                and "device-1" in browser.find_element(By.ID, "device").text
            )
        )
    finally:
        process.terminate()
        process.communicate(timeout=WITHIN_S)
    assert not Path(told.removeprefix("file://")).exists()
