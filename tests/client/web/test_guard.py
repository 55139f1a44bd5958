"""Who is let in to the page: nobody without its token, no page of elsewhere, nothing that is no photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from veilmatch import DeviceSettings
from veilmatch.client.web.app import build_app
from veilmatch.client.web.guard import HEADERS
from veilmatch.client.web.serving import HOST, listen, new_token
from veilmatch.crypto.errors import ConfigurationError

TOKEN, PORT = "a-token-of-the-test", 8123
BASE = f"http://127.0.0.1:{PORT}"
CALLS = ["device", "parties", "subjects", "look", "enrol", "verify", "candidates", "known", "erase"]


class NoCapture:
    dimension, model_id = 8, "toy"

    def embed_photo(self, source: Any) -> Any:
        raise AssertionError("no photo gets here")


@pytest.fixture
def page(settings: DeviceSettings) -> TestClient:
    return TestClient(build_app(settings, NoCapture(), lambda photo: {}, TOKEN, PORT), base_url=BASE)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "given", [None, "", "Bearer ", "Bearer a-token-of-the-tes", f"Bearer {TOKEN}x", TOKEN, "Bearer é"]
)
def test_without_the_token_nothing_is_answered(page: TestClient, call: str, method: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    answer = page.request(method, f"/api/{call}", headers=headers)
    assert answer.status_code == 401 and "veilmatch web" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css", "/page/icon.svg"])
def test_the_page_itself_says_nothing_about_the_device(page: TestClient, path: str, settings: DeviceSettings) -> None:
    answer = page.get(path)
    assert answer.status_code == 200
    assert settings.device not in answer.text and TOKEN not in answer.text
    assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", ""), "nothing comes from elsewhere"


def test_the_page_has_no_script_and_no_style_of_its_own(page: TestClient) -> None:
    text = page.get("/").text
    assert " style=" not in text and "<style" not in text and " onclick" not in text
    assert text.count("<script") == 1 and '<script src="/page/app.js"' in text


@pytest.mark.parametrize("path", ["/", "/api/device", "/nowhere"])
def test_every_answer_says_what_a_browser_may_do_with_it(page: TestClient, path: str) -> None:
    headers = page.get(path).headers
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert "default-src 'none'" in headers["content-security-policy"] and "unsafe" not in str(headers)


@pytest.mark.parametrize("host", ["veilmatch.example", "127.0.0.1.example", "10.0.0.1", f"evil:{PORT}", ""])
def test_another_name_for_this_machine_is_not_served(page: TestClient, host: str) -> None:
    answer = page.get("/api/device", headers={"Host": host, "Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://elsewhere.example"},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Origin": f"https://127.0.0.1:{PORT}"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_page_of_elsewhere_is_refused_even_with_the_token(page: TestClient, headers: dict[str, str]) -> None:
    answer = page.post("/api/verify", headers=headers | {"Authorization": f"Bearer {TOKEN}"}, content=b"photo")
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "not_let_in"


def test_files_beside_the_page_are_not_served(page: TestClient) -> None:
    for path in ("/page/../actions.py", "/page/%2e%2e/actions.py", "/page/..%2f..%2fconfig.py", "/page/"):
        assert page.get(path).status_code in (404, 405)


def test_tokens_are_long_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100 and min(map(len, tokens)) >= 32


def test_it_listens_at_this_machine_alone_and_says_when_it_cannot() -> None:
    with listen(0) as listener:
        host, port = listener.getsockname()
        assert host == HOST == "127.0.0.1"
        listener.listen()
        with pytest.raises(ConfigurationError, match="cannot be served there") as caught:
            listen(port)
        assert str(port) in str(caught.value.got)


def test_what_is_in_the_folder_of_the_page_is_all_that_a_browser_gets() -> None:
    folder = Path(build_app.__code__.co_filename).parent / "page"
    assert {path.name for path in folder.iterdir()} == {"index.html", "app.js", "style.css", "icon.svg"}
