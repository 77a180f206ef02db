"""python docs/look.py: pictures of the site's pages and of every figure as they are read, in build/look.

Pages are those of the lessons, the front page and the galleries, from build/site; widths are those of a column and of a
phone. Figures are shown as a page shows them, no wider than its column.
"""

import base64
import shutil
from pathlib import Path

from selenium import webdriver

ROOT = Path(__file__).parents[1]
SITE, LOOK = ROOT / "build" / "site", ROOT / "build" / "look"
WIDTHS = (736, 390)
TALLEST = 16_000  # pixels that a picture may have
FIGURE = '<body style="margin: 0; background: white"><img src="{address}" style="width: 100%">'


def main() -> None:
    shutil.rmtree(LOOK, ignore_errors=True)
    pages = [SITE / "index.html", *SITE.glob("notebooks/*.html"), *SITE.glob("gallery/*.html")]
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--allow-file-access-from-files"):
        options.add_argument(argument)
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as chrome:
        for width in WIDTHS:
            for page in sorted(pages):
                chrome.get(page.as_uri())
                save(chrome, width, LOOK / str(width) / "pages" / f"{page.stem}.png")
            for figure in sorted((ROOT / "figures" / "out").rglob("*.png")):
                holder = LOOK / "figure.html"
                holder.parent.mkdir(parents=True, exist_ok=True)
                holder.write_text(FIGURE.format(address=figure.as_uri()))
                chrome.get(holder.as_uri())
                save(chrome, width, LOOK / str(width) / figure.relative_to(ROOT / "figures" / "out"))
    holder.unlink()
    print(f"{sum(1 for _ in LOOK.rglob('*.png'))} pictures in {LOOK.relative_to(ROOT)}")


def save(chrome: webdriver.Chrome, width: int, path: Path) -> None:
    """The whole page at a width of the window."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    height = min(TALLEST, chrome.execute_script("return document.documentElement.scrollHeight"))
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | {"height": height})
    path.parent.mkdir(parents=True, exist_ok=True)
    shot = chrome.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
