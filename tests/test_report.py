"""Reports: what is on the page is what is in the result, escaped, and all in one file."""

import base64
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import run

from fibermodels.core import FiberSamples
from fibermodels.evaluation.calibration import rank_histograms
from fibermodels.evaluation.events import write_events
from fibermodels.evaluation.figures import read_grid, sample_grid
from fibermodels.evaluation.report import fibers
from fibermodels.evaluation.report.comparison import write_comparison_report
from fibermodels.evaluation.report.meanings import GROUPS, MEANINGS, meaning
from fibermodels.evaluation.report.result import result_page, write_result_report
from fibermodels.evaluation.report.scatter import HEIGHT, LETTER, WIDTH, plot
from fibermodels.evaluation.results import located_results, result_folders, save
from fibermodels.evaluation.tables import COLUMNS, IDENTITY, JUDGED
from fibermodels.metrics import fiber_rms
from fibermodels.noise import seeded

VOID = {"meta", "link", "img", "input", "br", "wbr", "hr"}
EVIL = "<script>alert('a')</script> \"quoted\" & <img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The elements of a page; an element that is not closed in its place is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for own, attributes in self.found if own == tag]

    def words(self):
        return " ".join(" ".join(self.text).split())

    def images(self):
        return {attributes["alt"]: attributes for attributes in self.all("img")}


def levels(uri):
    """The values of a PNG in a data URI, `(H, W, 3)`."""
    kind, content = uri.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def of(image):
    """The 256 levels of an image `(3, H, W)`, as `levels` returns them."""
    return (255 * image).round().byte().permute(1, 2, 0).numpy()


def drawn(targets=30, samples=4, size=8, channels=3):
    x = torch.rand(targets, channels, size, size, generator=seeded("report x"))
    x_hat = torch.rand(samples, targets, channels, size, size, generator=seeded("report x_hat"))
    h = torch.randn(targets, 5, generator=seeded("report h"))
    shift = torch.arange(targets) + 1.0  # the samples of target i have a fiber RMS of i + 1
    return FiberSamples(x, h, x_hat, h + shift[:, None].expand(samples, targets, 5))


def row(samples, **changes):
    sizes = {"num_targets": len(samples.x), "samples_per_target": len(samples.x_hat)}
    own = {"name": "mine", "family": "Family", "fiber_weight": 0.0, "dataset": "data", "subject": "0123456789abcdef"}
    scores = {"fiber_rms": fiber_rms(samples), "colour_kl": 0.3, "colour_kl_floor": 0.1, "seed": 7, "commit": "abc"}
    return own | {"subject_name": "Net", "device": "cpu", "training_device": "H100"} | sizes | scores | changes


def keep(folder, samples, values):
    """A result's folder as it is without its samples and ranks."""
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(values))
    sample_grid(samples, folder / "samples.png")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A result with its report: folder, samples, metrics, page."""
    folder, samples = tmp_path_factory.mktemp("results") / "mine", drawn()
    values = row(samples)
    save(folder, samples, values)
    path = write_result_report(folder, values, samples)
    return folder, samples, values, Page(path.read_text())


def test_the_page_shows_the_images_of_the_result(result):
    _, samples, _, page = result
    found = page.images()
    for target in (0, 15):
        assert np.array_equal(levels(found[f"target {target}"]["src"]), of(samples.x[target]))
        label = f"target {target}, sample 3, fiber RMS {target + 1}"
        label = next(key for key in found if key.startswith(label))
        assert np.array_equal(levels(found[label]["src"]), of(samples.x_hat[3, target]))
    assert "shows 16 of 30 targets, the first ones, and 4 of 4 samples of each" in page.words()
    assert "--cell: 96px" in [each.get("style") for each in page.all("div")], "8 pixels, 12 times as large"


def test_worst_and_best_targets(result):
    _, samples, _, page = result
    worst, best = fibers.extremes(fibers.of_samples(samples).rms, 4)
    assert worst == [29, 28, 27, 26]
    assert best == [0, 1, 2, 3]
    words = page.words()
    assert words.index("Worst") < words.index("target 29") < words.index("target 26") < words.index("Best")
    assert fibers.extremes(torch.zeros(2, 3), 4) == ([2], [0]), "no target is on both sides"
    assert fibers.extremes(torch.zeros(2, 1), 4) == ([], [])


def test_an_invariance_map_is_the_standard_deviation_of_each_pixel():
    x_hat = drawn(channels=1).x_hat
    expected = np.std(x_hat[:, :, 0].numpy(), axis=0, ddof=1)
    np.testing.assert_allclose(fibers.spread(x_hat).numpy(), expected, rtol=1e-5)
    coloured = x_hat.repeat(1, 1, 3, 1, 1)
    torch.testing.assert_close(fibers.spread(coloured), fibers.spread(x_hat))


def test_the_colours_of_the_maps_have_one_scale():
    """Of two targets, one varies and one does not: their maps have the first and the last colour of the scale."""
    x_hat = torch.zeros(2, 2, 3, 4, 4)
    x_hat[1, 1] = 1
    own = fibers.invariance(fibers.Fibers(torch.zeros(2, 3, 4, 4), x_hat), [0, 1], 10**6)
    shown = [levels(each.pictures[2].uri)[0, 0] for each in own.maps]
    assert ["#" + bytes(each).hex() for each in shown] == [own.colours[0], own.colours[-1]]
    assert (own.ticks[0], own.ticks[-1]) == ("0", "0.707")
    assert fibers.invariance(fibers.Fibers(torch.zeros(2, 3, 4, 4), x_hat[:1]), [0], 10**6) is None


def test_histograms_count_every_target(result):
    _, samples, _, page = result
    found, (low, high) = rank_histograms(samples)
    assert low <= 30 / 5 <= high
    bars = re.findall(r"rank (\d): (\d+) targets", page.words())
    assert len(bars) == 5 * len(found)
    assert sum(int(count) for _, count in bars) == 30 * len(found)
    assert [int(count) for _, count in bars[:5]] == found[0].counts


def test_metrics_have_floors_units_and_meanings(result):
    *_, page = result
    words = page.words()
    assert "colour KL 0.300 0.100 nats near the floor The Kullback-Leibler divergence" in words
    for each in ("seed 7", "commit abc", "device of the training H100"):
        assert each in words


def test_every_column_of_a_table_has_a_meaning():
    assert set(MEANINGS) == set(COLUMNS) - set(IDENTITY)
    for key, own in MEANINGS.items():
        assert own.group in GROUPS
        assert re.fullmatch(r"[A-Z].*\w\.", own.text), key
    for key in JUDGED:
        assert "the network is vgg" in meaning(f"{key}_vgg").text
    assert meaning("name") is None


def check_alone(page):
    """Nothing outside the file is loaded, and only the page's own script may run."""
    (script,) = page.all("script")
    assert script == {}
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    code = page.text[page.text.index(next(each for each in page.text if each.startswith('"use strict"')))]
    assert base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'")
    for tag, attributes in page.found:
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert tag != "link" or attributes["href"] == "data:,"
    style = page.text[page.text.index(next(each for each in page.text if ":root" in each))]
    assert "url(" not in style
    assert "@import" not in style


def test_one_file_without_requests(result):
    *_, page = result
    check_alone(page)


def test_text_of_the_user_is_escaped(tmp_path):
    samples = drawn(4, 2)
    keys = ("name", "family", "dataset", "subject_name", "device", "commit", "model_x", "series")
    values = row(samples, **dict.fromkeys(keys, EVIL)) | {EVIL: EVIL, f"fid_{EVIL}": 0.5}
    page = Page(result_page(tmp_path, values, samples))
    check_alone(page)
    assert page.words().count("<script>alert('a')</script>") > 6
    assert not [each for each in page.all("img") if each["src"] == "x"]

    folders = [tmp_path / f"<b>{i}</b>" for i in range(2)]
    for folder in folders:
        keep(folder, samples, values)
        write_result_report(folder, values)
    page = Page(write_comparison_report(located_results(folders), tmp_path / "out").read_text())
    check_alone(page)
    assert not page.all("b")
    links = {unquote(each["href"]) for each in page.all("a") if not each["href"].startswith("#")}
    assert links == {f"../<b>{i}</b>/report.html" for i in range(2)}


@pytest.mark.parametrize(("targets", "samples"), [(1, 1), (3, 2), (20, 10)])
def test_images_are_read_from_the_picture(targets, samples, tmp_path):
    own = drawn(targets, samples, size=5)
    sample_grid(own, tmp_path / "samples.png")
    x, x_hat = read_grid(tmp_path / "samples.png", targets, samples)
    assert (len(x), len(x_hat)) == (min(targets, 16), min(samples, 8))
    torch.testing.assert_close(x, own.x[:16], atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(x_hat, own.x_hat[:8, :16], atol=0.51 / 255, rtol=0)
    if targets < 16:
        assert read_grid(tmp_path / "samples.png", targets + 1, samples) is None
        assert read_grid(tmp_path / "samples.png", targets, samples + 1) is None
        assert read_grid(tmp_path / "samples.png", targets + 1, samples + 1) is None


def test_a_result_without_its_samples(tmp_path):
    samples = drawn()
    values = row(samples)
    save(tmp_path, samples, values)
    (tmp_path / "samples.safetensors").unlink()
    page = Page(write_result_report(tmp_path, values).read_text())
    found = page.images()
    assert np.array_equal(levels(found["target 3, sample 2"]["src"]), of(samples.x_hat[2, 3]))
    assert "histograms of ranks" in found
    assert "because samples.safetensors is not there" in page.words()
    assert "Worst" not in page.words()

    page = Page(write_result_report(tmp_path, values | {"num_targets": 7}).read_text())
    assert next(iter(page.images())) == "targets in the first row, samples below", "the picture as it is"

    (tmp_path / "samples.png").unlink()
    (tmp_path / "ranks.png").unlink()
    page = Page(write_result_report(tmp_path, values).read_text())
    assert not page.images()
    assert "There are no samples" in page.words()


@pytest.mark.parametrize("samples", [1, 10])
def test_a_report_stays_small(samples, tmp_path):
    """Noise is the largest PNG; images of 224 x 224 are averaged, and fewer of them are shown."""
    own = drawn(24, samples, size=224)
    path = write_result_report(tmp_path, row(own), own)
    assert path.stat().st_size < 3_000_000
    assert re.search(r"shows \d of 24 targets", Page(path.read_text()).words())


def test_one_channel_is_grey_and_two_are_red_and_green(tmp_path):
    own = drawn(4, 2, channels=1)
    uri = Page(result_page(tmp_path, row(own), own)).images()["target 1"]["src"]
    grey = (255 * own.x[1].mean(0)).round().byte().numpy()
    assert np.array_equal(levels(uri)[..., 0], grey)
    own = drawn(4, 2, channels=2)
    shown = levels(Page(result_page(tmp_path, row(own), own)).images()["target 1"]["src"]).astype(float)
    assert not shown[..., 2].any()
    for channel in range(2):
        correlation = np.corrcoef(shown[..., channel].ravel(), own.x[1, channel].numpy().ravel())[0, 1]
        assert correlation > 0.99


def comparison(count=14, **changes):
    rows = []
    for i in range(count):
        place = {"fiber_rms": 0.01 * (1 + i) ** 2, "colour_kl": 0.02 + 0.3 / (1 + i)}
        rows.append(row(drawn(2, 2), name=f"model{i}", family=f"Family{i % 10}", **place) | changes)
    return rows


def test_points_are_in_the_order_of_their_metrics():
    rows = comparison()
    (panel,) = plot(rows).panels
    assert [point.index for point in sorted(panel.points, key=lambda p: p.x)] == list(range(14))
    assert [point.index for point in sorted(panel.points, key=lambda p: p.y)] == list(range(14)), "down is lower"
    assert all(0 < point.x < WIDTH and 0 < point.y < HEIGHT for point in panel.points)
    assert panel.points[3].words == "model3: fiber RMS 0.160, colour KL 0.0950"
    for ticks, sign in ((panel.across, 1), (panel.up, -1)):
        places, values = [sign * tick.at for tick in ticks], [float(tick.label) for tick in ticks]
        assert places == sorted(places)
        assert values == sorted(values)
        assert 3 <= len(ticks) <= 12


def test_a_point_is_at_the_tick_of_its_value():
    rows = comparison(3)
    values = [(0.01, 0.1), (0.1, 0.5), (1.0, 1.0)]
    for own, (rms, kl) in zip(rows, values, strict=True):
        own |= {"fiber_rms": rms, "colour_kl": kl}
    (panel,) = plot(rows).panels
    across = {float(tick.label): tick.at for tick in panel.across}
    up = {float(tick.label): tick.at for tick in panel.up}
    for point, (rms, kl) in zip(panel.points, values, strict=True):
        assert point.x == pytest.approx(across[rms], abs=0.2)
        assert kl not in up or point.y == pytest.approx(up[kl], abs=0.2)
    assert panel.floor == pytest.approx(up[0.1], abs=0.2)


def test_names_in_the_plot_do_not_overlap():
    rows = comparison(30, fiber_rms=0.3)
    for i, own in enumerate(rows):
        own["fiber_rms"] += 0.002 * i
    (panel,) = plot(rows).panels
    assert panel.labels
    starts = {"start": 0, "middle": 0.5, "end": 1}
    boxes = []
    for label in panel.labels:
        width = LETTER * len(label.name)
        left = label.x - starts[label.anchor] * width
        boxes.append((left, left + width, label.y - 11, label.y + 3))
    for i, a in enumerate(boxes):
        assert not [b for b in boxes[:i] if a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]]


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.0, 0.0], [-0.1, 0.2], [1e-6, 1e3]])
def test_any_values_have_a_place(values):
    rows = comparison(len(values))
    for own, value in zip(rows, values, strict=True):
        own |= {"fiber_rms": value, "colour_kl": value}
    (panel,) = plot(rows).panels
    assert all(0 < point.x < WIDTH and 0 < point.y < HEIGHT for point in panel.points)


def test_a_comparison_has_tables_links_and_pictures(tmp_path):
    samples = drawn(20, 5)
    for i in range(3):
        keep(tmp_path / f"r{i}", samples, row(samples, name=f"model_{i}", fiber_rms=0.1 * (3 - i)))
    write_result_report(tmp_path / "r1", row(samples, name="model_1"))
    (tmp_path / "r2" / "samples.png").unlink()
    out = tmp_path / "deep" / "out"
    path = write_comparison_report(located_results([tmp_path / f"r{i}" for i in range(3)]), out)
    page = Page(path.read_text())
    links = {each["href"] for each in page.all("a") if not each["href"].startswith("#")}
    assert links == {"../../r1/report.html"}, "only the one that exists"
    assert (out / links.pop()).is_file()
    assert len(page.all("circle")) == 3
    assert {"0.3", "0.2", "0.1"} <= {round_of(each.get("data-value")) for each in page.all("td")}
    shown = page.images()
    assert len(shown) == 2
    picture = levels(shown["model_0: targets, and samples below them"]["src"])
    assert picture.shape[:2] == (4 * 9 - 1, 8 * 9 - 1), "8 targets and 3 samples of each"
    wrong = np.abs(picture[9:17, 18:26].astype(int) - of(samples.x_hat[0, 2]))
    assert wrong.mean() < 16, "few colours, but the right image"


def round_of(value):
    try:
        return f"{float(value):g}"
    except (TypeError, ValueError):
        return None


def test_a_comparison_of_many_results_stays_small(tmp_path):
    samples = drawn(8, 3, size=64)
    keep(tmp_path / "r", samples, row(samples))
    found = [(tmp_path / "r", row(samples, name=f"m{i}")) for i in range(20)]
    assert write_comparison_report(found, tmp_path).stat().st_size < 3_000_000


def test_a_comparison_without_a_metric_of_consistency(tmp_path):
    values = {"name": "a", "family": "A", "fiber_weight": 0.0, "fiber_rms": 0.1}
    page = Page(write_comparison_report([(tmp_path, values)], tmp_path).read_text())
    assert not page.all("svg")
    assert "Comparison of 1 result" in page.words()


ORACLE = ("--model", "configs/digits/oracle.yaml", "--num_targets", 24, "--samples_per_target", 3)


def test_the_command_line_writes_reports(tmp_path):
    out, other = tmp_path / "oracle", tmp_path / "other"
    done = run("evaluate.py", *ORACLE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out / "report.html")
    assert "oracle" in Page((out / "report.html").read_text()).words()

    other.mkdir()
    (other / "report.html").write_text("my own page")
    done = run("evaluate.py", *ORACLE, "--out", other)
    assert done.returncode == 2
    assert "report.html' exists: choose another --out, or give --overwrite true" in done.stderr
    assert [path.name for path in other.iterdir()] == ["report.html"]
    assert (other / "report.html").read_text() == "my own page"

    first = (out / "report.html").read_text()
    done = run("evaluate.py", "--report", out)
    assert done.returncode == 2
    assert "report.html' exists: give --overwrite true" in done.stderr
    (out / "report.html").write_text("old")
    done = run("evaluate.py", "--report", out, "--overwrite", "true", "--tensorboard", "true")
    assert done.returncode == 2
    assert "tensorboard: expected none with --report" in done.stderr
    done = run("evaluate.py", "--report", out, "--overwrite", "true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "report.html")
    assert (out / "report.html").read_text() == first, "the same from the files as from the evaluation"
    names = {"metrics.json", "ranks.png", "report.html", "samples.png", "samples.safetensors"}
    assert {path.name for path in out.iterdir()} == names

    done = run("evaluate.py", "--compare", out, "--out", tmp_path, "--tensorboard", "true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [str(tmp_path / "report.html"), str(tmp_path / "tensorboard")]
    assert "oracle/report.html" in (tmp_path / "report.html").read_text()
    assert result_folders([str(out), str(tmp_path / "tensorboard")]) == [str(out)]


def test_tensorboard_shows_the_metrics_and_the_pictures(result, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, values, _ = result
    values = values | {"training_steps": 30}
    for path in folder.glob("*.png"):
        shutil.copy(path, tmp_path)
    for _ in range(2):
        write_events(tmp_path, values)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["images"]) == {f"result/{path.stem}" for path in tmp_path.glob("*.png")} != set()
    only = events.Scalars("result/fiber_rms")
    assert [(each.step, each.value) for each in only] == [(30, pytest.approx(values["fiber_rms"]))]
    shown = events.Images("result/samples")[0]
    with Image.open(tmp_path / "samples.png") as picture:
        assert (shown.width, shown.height) == picture.size


def test_a_report_that_cannot_be_made_changes_nothing(tmp_path):
    samples = drawn(4, 2)
    for name in ("good", "bad"):
        keep(tmp_path / name, samples, row(samples))
    (tmp_path / "bad" / "metrics.json").write_text(json.dumps({"family": "F"}))
    done = run("evaluate.py", "--report", tmp_path / "good", tmp_path / "bad")
    assert done.returncode == 2
    assert "bad/metrics.json' is not a result" in done.stderr
    assert not (tmp_path / "good" / "report.html").exists()
    (tmp_path / "good" / "samples.safetensors").write_bytes(b"text")
    done = run("evaluate.py", "--report", tmp_path / "good")
    assert done.returncode == 2
    assert "samples.safetensors' is damaged" in done.stderr
    done = run("evaluate.py", "--report", tmp_path / "good", "--out", tmp_path)
    assert "out: expected none with --report" in done.stderr
    assert "no result in '/nowhere'" in run("evaluate.py", "--report", "/nowhere").stderr


@pytest.mark.parametrize("command", [ORACLE, ("--compare", "results/blobs/oracle")], ids=["model", "compare"])
def test_only_a_report_needs_no_folder(command):
    done = run("evaluate.py", *command)
    assert done.returncode == 2
    assert done.stderr == "error: out: expected the folder for the result, --out DIR, got none\n"
