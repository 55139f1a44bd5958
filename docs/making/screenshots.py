"""Makes docs/images: the page of `veilmatch web`, the report of `veilmatch eval` and the page of `make bench`.

Wide, and as wide as a telephone:

python docs/making/screenshots.py [--report evaluation/index.html] [--bench benchmarks/results/index.html]

Needs Chromium and its driver (`make chromium`), the face models and the test photos. Photos of people are not
published: what the page shows of one is replaced by a drawing before the picture is taken. The rest is as it comes.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from veilmatch.client.models import orl_photo
from veilmatch.testing import LocalInstallation

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
WIDE, NARROW = 1100, 390
WITHIN_S = 240
#: Pixels of a picture from top to bottom, at most: nobody scrolls through a picture.
MOST_HIGH = 1640
_SOMEBODY = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 64 56'%3E%3Crect width='64' height='56' "
    "fill='%23d8dee6'/%3E%3Ccircle cx='32' cy='22' r='12' fill='%23718096'/%3E%3Cpath d='M8 56a24 20 0 0 1 48 0z' "
    "fill='%23718096'/%3E%3C/svg%3E"
)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise SystemExit("Chromium and its driver are not installed: make chromium")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
        ):  # fmt: skip
            options.add_argument(argument)
        started = webdriver.Chrome(options=options, service=Service(driver))
        started.set_page_load_timeout(WITHIN_S)
        try:
            yield started
        finally:
            started.quit()


def set_width(chromium: Any, width: int, height: int = 900) -> None:
    """Let the page be so wide, in pixels of CSS."""
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < WIDE},
    )


def take(chromium: Any, name: str, width: int) -> None:
    """Write docs/images/NAME-wide.webp or -narrow.webp: the page from its top."""
    set_width(chromium, width)
    height = min(MOST_HIGH, int(chromium.execute_script("return document.documentElement.scrollHeight")))
    set_width(chromium, width, height)
    chromium.execute_script("scrollTo(0, 0)")
    picture = Image.open(io.BytesIO(chromium.get_screenshot_as_png())).convert("RGB")
    path = IMAGES / f"{name}-{'wide' if width == WIDE else 'narrow'}.webp"
    picture.save(path, "WEBP", quality=80, method=6)
    size_kb = path.stat().st_size // 1024
    sys.stdout.write(f"{path.relative_to(ROOT)}: {picture.width} x {picture.height}, {size_kb} kB\n")


def take_both(chromium: Any, name: str) -> None:
    """Take the page wide and narrow."""
    for width in (WIDE, NARROW):
        take(chromium, name, width)


def photo(folder: Path, number: int) -> Path:
    """An ORL photo as a camera gives it. Nothing of it is shown."""
    face = Image.open(orl_photo(1, number)).convert("RGB").resize((460, 560))
    whole = Image.new("RGB", (640, 560), (120, 120, 120))
    whole.paste(face, (90, 0))
    path = folder / f"{number}.jpg"
    whole.save(path, quality=95)
    return path


@contextmanager
def page(config: Path) -> Iterator[str]:
    """`veilmatch web`; its address."""
    command = [sys.executable, "-m", "veilmatch", "web", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def web(chromium: Any, folder: Path) -> None:
    """Enrol, verify, and show what each party saw."""

    def at(name: str) -> Any:
        return chromium.find_element(By.ID, name)

    def until(words: str, name: str) -> None:
        WebDriverWait(chromium, WITHIN_S).until(lambda _: words in at(name).text)

    with LocalInstallation(budgets=True) as made, page(made.device_config()) as address:
        set_width(chromium, WIDE)
        chromium.get(address)
        until("device-1", "device")
        for task, number, words in (("enrol", 1, "is enrolled"), ("verify", 5, "This is ada")):
            at(f"tab-{task}").click()
            at("file").send_keys(str(photo(folder, number)))
            until("good enough", "quality")
            at("name").clear()
            at("name").send_keys("ada")
            at("go").click()
            until(words, "result")
        at("list").click()
        until("ada", "people")
        WebDriverWait(chromium, WITHIN_S).until(lambda _: at("budgets").text)
        chromium.execute_script(
            "for (const shown of document.querySelectorAll('#chosen, #views img'))"
            " if (shown.src.startsWith('blob:') || shown.alt === 'your photo') shown.src = arguments[0]",
            _SOMEBODY,
        )
        take_both(chromium, "web")


def main(report: Path | None, bench: Path | None) -> None:
    """Make all pictures whose pages are there."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        for name, file in (("report", report), ("bench", bench)):
            if file is not None:
                set_width(chromium, WIDE)
                chromium.get(file.resolve().as_uri())
                take_both(chromium, name)
        web(chromium, Path(folder))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    options.add_argument("--report", type=Path, help="of `veilmatch eval`")
    options.add_argument("--bench", type=Path, help="of `make bench`")
    given = options.parse_args()
    main(given.report, given.bench)
