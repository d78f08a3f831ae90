"""Reports in a real browser: headless Chromium opens them, looks, clicks and types."""

import shutil
from pathlib import Path

import pytest
from test_report import drawn, keep, row

from fibermodels.evaluation.report.comparison import write_comparison_report
from fibermodels.evaluation.report.result import write_result_report
from fibermodels.evaluation.results import located_results

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZES = [(1280, 900, "light"), (1280, 900, "dark"), (375, 700, "light"), (375, 700, "dark")]


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium: that of the system, else that of Playwright."""
    reason = "needs the extra `browser`: pip install -e '.[browser]'"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    with playwright.sync_playwright() as started:
        installed = next(filter(None, map(shutil.which, NAMES)), started.chromium.executable_path)
        if not Path(installed).exists():
            pytest.skip("needs Chromium: `apt-get install chromium`, or `playwright install chromium`")
        own = started.chromium.launch(executable_path=installed)
        yield own
        own.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The report of a result with its samples, that of one without, and that of a comparison of both and a third."""
    folder, samples = tmp_path_factory.mktemp("reports"), drawn(24, 10, size=28)
    found = {"b_result": 0.9, "a_result": 0.02, "c_result": 10.5}
    for name, rms in found.items():
        values = row(samples, name=name, family=name.upper(), fiber_rms=rms, colour_kl=0.1 + rms)
        keep(folder / name, samples, values)
        if name != "c_result":
            write_result_report(folder / name, values, samples if name == "b_result" else None)
    write_comparison_report(located_results([folder / name for name in found]), folder)
    return {"full": folder / "b_result", "kept": folder / "a_result", "comparison": folder}


@pytest.fixture
def opened(browser, reports):
    """Opens a report and returns its page; at the end, it must have said nothing and asked for nothing."""
    pages, said = [], []

    def open_report(name, width=1280, height=900, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        address = (reports[name] / "report.html").as_uri()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if _outside(request.url, address) else None)
        page.goto(address)
        pages.append(page)
        return page

    yield open_report
    for page in pages:
        page.close()
    assert not said


def _outside(url, address):
    return not url.startswith("data:") and url.partition("#")[0] != address


@pytest.mark.parametrize("name", ["full", "kept", "comparison"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}-{size[2]}")
def test_a_report_is_whole_at_any_size(name, size, opened, tmp_path):
    width, _, scheme = size
    page = opened(name, *size)
    images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])")
    assert len(images) >= 3
    assert all(complete and across > 0 and down > 0 for complete, across, down in images)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "no sideways scrolling of the page"
    corners = "e => e.getBoundingClientRect()).map(r => [r.x, r.y, r.right, r.bottom]"
    boxes = page.evaluate(f"[...document.querySelectorAll('.samples .picture')].map({corners})")
    assert all(right - left >= 96 and bottom - top >= 96 for left, top, right, bottom in boxes)
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if _overlap(a, b)]
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, colour[4:-1].split(","))) < 128) == (scheme == "dark")
    shot = tmp_path / "page.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 20_000


def _overlap(a, b):
    return a[0] < b[2] - 0.5 and b[0] < a[2] - 0.5 and a[1] < b[3] - 0.5 and b[1] < a[3] - 0.5


@pytest.mark.parametrize("name", ["full", "kept"])
def test_a_click_enlarges_a_sample_beside_its_target(name, opened):
    page = opened(name)
    zoom = page.locator("#zoom")
    assert not zoom.is_visible()
    samples = page.locator(".samples .picture img")
    samples.nth(2).click()
    assert zoom.is_visible()
    large, small = zoom.locator("img").nth(1).bounding_box(), samples.nth(2).bounding_box()
    assert large["width"] > 2.5 * small["width"]
    sources = zoom.locator("img").evaluate_all("images => images.map(i => i.src)")
    target = page.locator(".target img").first.get_attribute("src")
    assert sources == [target, samples.nth(2).get_attribute("src")]
    assert zoom.locator(".caption").inner_text().startswith("target 0, sample 2")
    page.keyboard.press("ArrowRight")
    assert zoom.locator(".caption").inner_text().startswith("target 0, sample 3")
    page.keyboard.press("Escape")
    assert not zoom.is_visible()
    assert page.evaluate("document.activeElement.querySelector('img').alt").startswith("target 0, sample 3")
    page.keyboard.press("Enter")
    assert zoom.is_visible(), "the keyboard enlarges, too"


def names(page):
    return page.locator("#results tbody th").all_inner_texts()


def test_a_click_on_a_heading_sorts(opened):
    page = opened("comparison")
    assert names(page) == ["a_result", "b_result", "c_result"]
    heading = page.locator("#results thead th", has_text="fiber RMS").first
    heading.locator("button").click()
    assert names(page) == ["a_result", "b_result", "c_result"], "as numbers: 0.02, 0.9, 10.5"
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").click()
    assert names(page) == ["c_result", "b_result", "a_result"]
    assert heading.get_attribute("aria-sort") == "descending"
    page.locator("#results thead th", has_text="model").first.locator("button").click()
    assert names(page) == ["a_result", "b_result", "c_result"]
    assert heading.get_attribute("aria-sort") is None


def test_further_columns_are_shown_on_demand(opened):
    page = opened("comparison")
    seen = "[...document.querySelectorAll('#results thead th')].filter(e => e.offsetWidth).length"
    few, every = page.evaluate(seen), page.locator("#results thead th").count()
    assert few <= 8
    assert every > few
    page.locator("[data-more]").check()
    assert page.evaluate(seen) == every


def test_a_point_has_a_name_under_the_pointer_and_leads_to_its_picture(opened):
    page = opened("comparison")
    label = page.locator(".plot .hover")
    assert not label.is_visible()
    point = page.locator(".plot a").nth(1)
    assert point.locator("title").text_content().startswith("b_result: fiber RMS 0.900")
    point.hover()
    assert label.is_visible()
    assert label.text_content().startswith("b_result: fiber RMS 0.900")
    point.click()
    card = page.locator("article:target")
    assert card.locator("h3").inner_text() == "b_result"
    assert card.locator("a").get_attribute("href") == "b_result/report.html"


def test_a_link_of_a_comparison_opens_the_report_of_its_result(browser, reports):
    page = browser.new_page()
    page.goto((reports["comparison"] / "report.html").as_uri())
    page.locator("#results tbody a", has_text="b_result").click()
    assert page.locator("h1").inner_text() == "b_result"
    page.close()


def test_a_printed_report_has_its_pictures(opened, tmp_path):
    page = opened("full")
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Subtype /Image") > 100
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 720, "height": 1000})  # about A4 without margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
