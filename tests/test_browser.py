"""The notebooks in real JupyterLab, and the gallery, in a headless Chromium: `make test-browser`.

`make test-browser BROWSER=quick`, which CI runs, leaves all notebooks but the first out.
"""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver")

ROOT = Path(__file__).parents[1]
FIRST, *OTHERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SITE = ROOT / "build" / "site"
SECONDS = 300

OPENED = """
const panel = window.jupyterapp?.shell.currentWidget;
return Boolean(panel?.content?.model?.cells?.length && panel.sessionContext?.session?.kernel?.status === 'idle');
"""
RUN_ALL = """
window.finished = null;
window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.finished = true; });
"""
FORGET = "window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs');"
STATE = """
const cells = window.jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.model.type === 'code');
const outputs = cells.flatMap(cell => Array.from(
    {length: cell.model.outputs.length}, (_, i) => cell.model.outputs.get(i).toJSON()));
return {
    unrun: cells.filter(cell => !cell.model.executionCount).length,
    errors: outputs.filter(output => output.output_type === 'error').map(output => output.evalue),
    pictures: outputs.filter(output => output.data && 'image/png' in output.data).length,
};
"""
MISSING = """
const images = Array.from(document.querySelectorAll(arguments[0]));
images.forEach(image => { image.loading = 'eager'; });
return images.filter(image => !image.complete || !image.naturalWidth).map(image => image.src);
"""
SOURCES = "return Array.from(document.querySelectorAll(arguments[0])).map(image => image.src);"
MARKDOWN_IMAGE = ".jp-MarkdownCell img"


@pytest.fixture(scope="module")
def browser():
    driver = shutil.which("chromedriver")
    if not driver:
        pytest.fail("chromedriver is not on the path: install Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `make lab` starts it, over copies of the notebooks: what it saves stays out of the checkout."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "figures", "docs"):  # Markdown cells show pictures from outside notebooks/
        shutil.copytree(ROOT / name, folder / name)
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # cells out of sight are there too
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--ServerApp.root_dir=.", "--IdentityProvider.token=", f"--ServerApp.port={port}",
               "--LabApp.expose_app_in_browser=True", "--ServerApp.allow_root=True",
               f"--LabApp.user_settings_dir={folder / 'settings'}"]  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", *options, f"notebooks/{FIRST.name}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, **quiet) as server:
        address = f"http://127.0.0.1:{port}/lab"
        until(lambda: answers(address), 60, "JupyterLab did not start")
        yield address
        server.terminate()


def answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def until(done, seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, otherwise
        time.sleep(0.5)


@pytest.mark.parametrize(
    "path", [FIRST, *(pytest.param(path, marks=pytest.mark.slow) for path in OTHERS)], ids=lambda path: path.stem
)
def test_a_notebook_opens_in_jupyterlab_and_runs(path, lab, browser):
    browser.get(f"{lab}/tree/notebooks/{path.name}?reset")
    until(lambda: browser.execute_script(OPENED), 90, "the notebook did not open")
    browser.execute_script(FORGET)
    assert browser.execute_script(STATE)["pictures"] == 0
    browser.execute_script(RUN_ALL)
    until(lambda: browser.execute_script("return window.finished"), SECONDS, f"{path.stem} did not end")
    state = browser.execute_script(STATE)
    assert not state["errors"] and not state["unrun"] and state["pictures"]
    until(lambda: not browser.execute_script(MISSING, MARKDOWN_IMAGE), 30, "a picture in a Markdown cell is missing")
    in_text = re.findall(r"!\[.*?\]\(|<img ", "\n".join(markdown(path)))
    assert len(browser.execute_script(SOURCES, MARKDOWN_IMAGE)) == len(in_text)


def markdown(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]


@pytest.mark.parametrize("path", [FIRST, *OTHERS], ids=lambda path: path.stem)
def test_every_formula_of_a_lesson_is_typeset_without_the_network(path):
    page = (SITE / "notebooks" / f"{path.stem}.html").read_text()
    text = re.sub(r"```.*?```|`[^`\n]*`", "", "\n".join(markdown(path)), flags=re.DOTALL)
    formulas = re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", text, flags=re.DOTALL)
    typeset = re.findall(r"<math .*?</math>", page, flags=re.DOTALL)
    assert len(typeset) == len(formulas) > 0
    assert not [formula for formula in typeset if "\\" in formula]
    assert not re.search(r'<script[^>]+src="(https?:)?//|<link[^>]+stylesheet[^>]+href="(https?:)?//', page)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_a_slider_of_the_gallery_changes_its_picture(path, browser):
    browser.get((SITE / "notebooks" / f"{path.stem}.html").as_uri())
    boxes = browser.find_elements("css selector", "div[id^=frames-]")
    assert boxes
    for box in boxes:
        shown = box.find_element("tag name", "img").get_attribute("src")
        slider, said = (box.find_element("tag name", name) for name in ("input", "output"))
        before, places = said.text, int(slider.get_attribute("max"))
        other = 0 if int(slider.get_attribute("value")) == places else places
        browser.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, other
        )
        assert box.find_element("tag name", "img").get_attribute("src") != shown and said.text != before


def pages() -> list[Path]:
    return sorted(SITE.rglob("*.html"))


def links(page: Path) -> list[str]:
    """Every local address that a page refers to."""
    found = re.findall(r'(?:href|src)="([^"]+)"', page.read_text())
    return [link for link in found if not re.match(r"(https?:|mailto:|data:|javascript:)", link)]


def test_no_link_of_the_gallery_is_broken():
    assert len(pages()) > 50, "run make site first"
    identities = {page: set(re.findall(r'id="([^"]+)"', page.read_text())) for page in pages()}
    broken = []
    for page in pages():
        for link in links(page):
            place, _, anchor = link.partition("#")
            target = (page.parent / urllib.parse.unquote(place.split("?")[0])).resolve() if place else page
            if not target.exists() or (anchor and target in identities and anchor not in identities[target]):
                broken.append(f"{page.relative_to(SITE)}: {link}")
    assert not broken, "\n".join(broken)


def test_every_page_of_the_gallery_opens_with_its_pictures(browser):
    shown = 0
    for page in pages():
        browser.get(page.as_uri())
        assert "icl-synth" in browser.title, page.name
        until(lambda: not browser.execute_script(MISSING, "img"), 5, f"{page.name} lacks a picture")
        shown += len(browser.execute_script(SOURCES, "img"))
    assert shown > 30
