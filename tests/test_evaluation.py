"""Evaluation: draws, scores, results on disk, comparisons."""

import csv
import json
from functools import partial

import pytest
import torch
from cases import FEATURES, flow_matching, images, normalizing_flow, subject
from safetensors.torch import save_file
from scripts import run

from fibermodels.component import fingerprint
from fibermodels.config import describe
from fibermodels.core import Data, FiberSamples, HasCategories, HasLaw, Images, Pushforward, Reports
from fibermodels.evaluation import building
from fibermodels.evaluation.drawing import Choice, Drawing, Partial
from fibermodels.evaluation.expense import training_cost
from fibermodels.evaluation.figures import plot, write_comparison
from fibermodels.evaluation.judging import Judges
from fibermodels.evaluation.metamers import plot_metamers
from fibermodels.evaluation.processes import helped
from fibermodels.evaluation.results import load_samples, read_results, save
from fibermodels.evaluation.rows import consistency, leading, short_names
from fibermodels.evaluation.scoring import evaluate, parameters, score, subject_name
from fibermodels.evaluation.tables import columns, headings, markdown_table, number, summary, unequal_targets
from fibermodels.guidance import LatentDescent
from fibermodels.latents import VAE, Identity
from fibermodels.metrics.features import feature_scores
from fibermodels.models import DecodedNoise, NearestNeighbour, Oracle
from fibermodels.suites import DecolorisedEncoder
from fibermodels.suites.colour_digits import ColourDigits

ABOUT = {"name", "family", "fiber_weight", "dataset", "num_targets", "samples_per_target", "seed", "device", "commit"}
COST = {"num_parameters", "seconds_per_sample", "network_calls_per_sample"}


def draw(*arguments, **options):
    return Drawing(*arguments, **options).gather()


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The oracle's result, saved."""
    folder = tmp_path_factory.mktemp("results") / "oracle"
    samples, values = evaluate(Oracle(ColourDigits()), subject(), ColourDigits(), Choice(200, 5, seed=3))
    save(folder, samples, values)
    return folder, samples, values


def test_the_oracle_scores_at_the_floor(result):
    _, _, values = result
    assert values["fiber_rms"] < 1e-4
    assert values["colour_kl"] == pytest.approx(values["colour_kl_floor"], rel=0.15)
    assert values["colour_w1"] == pytest.approx(values["colour_w1_floor"], rel=0.5)
    assert values["pairwise_distance"] == pytest.approx(values["pairwise_distance_truth"], rel=0.1)
    assert values["contrast_error"] < 1e-4


def test_metrics_say_where_they_come_from(result):
    folder, _, values = result
    assert set(values) >= ABOUT | COST
    assert values["subject"] == fingerprint(subject())
    assert json.loads((folder / "metrics.json").read_text()) == values
    assert all(value is not None and value == value for value in values.values())


def test_samples_are_kept_and_score_the_same_again(result):
    folder, samples, values = result
    again = load_samples(folder)
    assert torch.equal(again.x_hat, samples.x_hat)
    rescored = score(again)
    assert rescored["fiber_rms"] == values["fiber_rms"]
    assert "colour_kl" not in rescored, "a metric that does not apply is absent"
    assert (folder / "samples.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "model", [flow_matching(), normalizing_flow(), Oracle(ColourDigits())], ids=lambda m: type(m).__name__
)
def test_samples_do_not_depend_on_the_batch_size(model):
    phi, x = subject(), images(10)
    first, *_ = draw(model, phi, x, 3, seed=5, batch_size=10)
    second, *_ = draw(model, phi, x, 3, seed=5, batch_size=3)
    torch.testing.assert_close(first.x_hat, second.x_hat, atol=1e-5, rtol=0)


def test_a_density_adds_its_likelihood():
    _, values = evaluate(normalizing_flow(), subject(), ColourDigits(), Choice(8, 2))
    assert values["nll_bits_per_dim"] > 0
    assert values["num_parameters"] == parameters(normalizing_flow()) > 0


def test_the_cost_counts_the_latent_space_and_names_parts_without_a_time(tmp_path):
    paths = [str(tmp_path / f"{name}.safetensors") for name in ("vae", "density")]
    spaces = [VAE([1, 8, 8], 3, width=8, blocks=1, patterns=4) for _ in paths]
    for space, path in zip(spaces, paths, strict=True):
        save_file(space.state_dict(), path)
    timed = {"training_seconds": 60.0, "training_device": "cpu (2 threads)"}
    (tmp_path / "vae.json").write_text(json.dumps(timed))
    known, unknown = (
        describe(DecodedNoise(VAE([1, 8, 8], 3, width=8, blocks=1, patterns=4, weights=path))) for path in paths
    )
    assert training_cost(known) == timed
    assert training_cost(known, 30, "H100")["training_seconds"] == 90
    assert training_cost(known, 30, "H100")["training_device"] == "H100 and cpu (2 threads)"
    assert training_cost(unknown, 30, "H100") == {
        "training_seconds": 30,
        "training_device": "H100",
        "untimed": paths[1],
    }
    assert training_cost(describe(NearestNeighbour())) == {}


def test_a_single_target_has_no_shuffled_one():
    _, values = evaluate(NearestNeighbour(), subject(), ColourDigits(), Choice(1, 2))
    assert "fiber_rms_shuffled" not in values


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 1), "num_targets: expected at least 1"),
        ((5, 0), "samples_per_target"),
        ((9999, 1), "at most the 250 images"),
    ],
)
def test_bad_numbers(numbers, message):
    with pytest.raises(ValueError, match=message):
        evaluate(NearestNeighbour(), subject(), ColourDigits(), Choice(*numbers))


def test_targets_out_of_range():
    with pytest.raises(ValueError, match=r"targets: expected values in \[0, 1\]"):
        draw(flow_matching(), subject(), 2 * images(4), 1)


class Broken(Pushforward):
    """Pushes noise to images, of which one in one slot is not finite."""

    image_shape, noise_shape, network_calls = (3, 28, 28), (3, 28, 28), 1

    def push(self, noise, h):
        images = noise.sigmoid()
        images[-1, 0, 0, 0] = float("nan")  # the last target of the last slot
        return images


def test_broken_samples_are_noticed_in_every_slot():
    with pytest.raises(ValueError, match="samples of Broken, slot 2, target 3: expected values"):
        draw(Broken(), subject(), images(4), 3)


class Overflowing(DecolorisedEncoder):
    """Represents one sample of one slot as infinity."""

    calls = 0

    def forward(self, images):
        h = super().forward(images)
        self.calls += 1
        return h.index_fill(0, torch.tensor([2]), torch.inf) if self.calls == 4 else h  # targets, then slots


def test_a_broken_representation_of_a_sample_is_noticed():
    """A metric of it would be NaN, and would be left out as one that does not apply."""
    phi = Overflowing(dim=FEATURES, width=16, blocks=1)
    message = "representations of samples of FlowMatching, slot 2, target 2: expected finite"
    with pytest.raises(ValueError, match=message):
        draw(flow_matching(), phi, images(4), 3)


class Counting(DecolorisedEncoder):
    """Counts the images that it represents."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return super().forward(images)


def test_the_subject_looks_once_at_each_image():
    phi = Counting(dim=FEATURES, width=16, blocks=1)
    evaluate(flow_matching(), phi, ColourDigits(), Choice(20, 3))
    assert phi.seen == 20 + 3 * 20, "targets and samples; exact samples have their target's representation"
    phi.seen = 0
    evaluate(NearestNeighbour(), phi, ColourDigits(), Choice(20, 3))
    assert phi.seen == len(ColourDigits().split("train")) + 20 + 3 * 20


def row(**changes):
    own = {"name": "a", "family": "A", "fiber_weight": 0.0, "fiber_rms": 0.2, "colour_kl": 0.1, "subject": "s"}
    return own | {"dataset": "d", "colour_kl_floor": 0.01} | changes


def write(folder, **changes):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(row(**changes)))
    return folder


def test_comparison(tmp_path):
    folders = [
        write(tmp_path / "1"),
        write(tmp_path / "2", fiber_weight=10.0, fiber_rms=0.1, name="b"),
        write(tmp_path / "3", family="Oracle", name="oracle", fiber_rms=0.0),
    ]
    rows = read_results(folders)
    assert [r["name"] for r in rows] == ["oracle", "a", "b"]
    write_comparison(rows, tmp_path / "out")
    with (tmp_path / "out" / "comparison.csv").open() as file:
        assert [float(r["fiber_rms"]) for r in csv.DictReader(file)] == [0.0, 0.2, 0.1]
    assert (tmp_path / "out" / "comparison.md").read_text() == markdown_table(rows)
    assert "| b | 10 | 0.100 | 0.100 (0.0100) |" in markdown_table(rows)
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 5000


def comparison(results=15, subjects=1, **more):
    """Results of several families and subjects, many of them close to one another."""
    rows = []
    for i in range(results):
        own = {"name": f"model{i}-lambda1-of-this", "family": f"Family{i % 6}", "fiber_weight": 1.0}
        place = {"fiber_rms": 0.05 + 0.3 * (i % 5 == 0) + 1e-4 * i, "colour_kl": 0.02 + 0.001 * i}
        rows += [row(**own, **place, subject=f"{k}" * 16, **more) for k in range(subjects)]
    return rows


def test_a_table_has_at_most_eight_columns_and_a_dozen_rows(tmp_path):
    metrics = dict.fromkeys(("pixel_error", "cosine", "top1_match", "fid_net", "training_seconds", "fid_x"), 0.5)
    rows = comparison(**metrics, network_calls_per_sample=1, seconds_per_sample=0.01)
    write_comparison(rows, tmp_path)
    titles, _, *lines = (tmp_path / "comparison.md").read_text().split("\n\n")[0].splitlines()
    assert titles.count("|") - 1 == 8
    assert len(lines) == 12
    assert "12 of 15 results" in summary(rows)
    with (tmp_path / "comparison.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 15
    numbers = {key for each in rows for key, value in each.items() if isinstance(value, float | int)}
    assert numbers <= set(found[0])


def test_a_table_of_a_suite_shows_every_floor():
    names = ("factor_ks", "joint_distance", "mode_error", "pixel_error")
    scores = dict.fromkeys(names, 0.25) | {f"{name}_floor": 0.125 for name in names}
    calibration = dict.fromkeys(
        ("rank_rejected", "rank_scalars", "tarp_pvalue", "joint_test_pvalue", "energy_score"), 0.5
    )
    rows = [{"name": "a", "family": "A", "fiber_weight": 0.0, "fiber_rms": 0.1, **scores, **calibration}]
    assert list(columns(rows))[:6] == ["name", "fiber_rms", *names]
    assert markdown_table(rows).count("0.250 (0.125)") == 4
    assert set(calibration) <= set(headings(rows))
    assert list(columns(rows, ("tarp_pvalue",)).values()) == ["model", "TARP p"]


def test_the_best_of_each_family_leads():
    rows = comparison(30)
    assert {each["family"] for each in leading(rows, 6)} == {f"Family{i}" for i in range(6)}
    best = row(name="best", fiber_rms=0.01, colour_kl=0.011, subject="0" * 16)
    assert leading([*rows, best], 1) == [best]


def test_short_names():
    own = ["m-lambda1-net-last", "m-net-last-more", "n-net-last"]
    rows = [row(name=name, fiber_weight=float("lambda" in name)) for name in own]
    assert short_names(rows) == ["m", "m-more", "n"]
    assert short_names(rows[2:]) == ["n-net-last"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1.0, "1"), (0.99999, "1.000"), (0.00001, "0"), (12.345, "12.3"), (1234.5, "1234")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize("subjects", [1, 2])
def test_labels_do_not_overlap(subjects):
    figure, labels = plot(comparison(subjects=subjects))
    assert len(figure.axes) == subjects
    boxes = [label.get_window_extent() for label in labels]
    assert 5 * subjects <= len(boxes) <= 10 * subjects
    assert not [(i, j) for i, box in enumerate(boxes) for j in range(i) if box.overlaps(boxes[j])]
    frames = [label.axes.bbox for label in labels]
    assert all(f.x0 - 1 <= b.x0 and b.x1 <= f.x1 + 1 for f, b in zip(frames, boxes, strict=True))


def test_a_figure_names_the_wanted_curves():
    _, labels = plot(comparison(), named=["model3-lambda1-of-this", "model5-lambda1-of-this"])
    assert [label.get_text() for label in labels] == ["model3", "model5"]


def test_a_figure_of_metamers_if_judges_took_no_part(tmp_path):
    """The point of each result is at the shares that its metrics say."""
    rows = comparison(3)
    write_comparison(rows, tmp_path)
    assert not (tmp_path / "metamers.png").exists()
    judged = [each | {"top1_match": 0.9 - 0.1 * i, "unseen_match_mean": 0.3 * i} for i, each in enumerate(rows)]
    write_comparison(judged, tmp_path)
    assert (tmp_path / "metamers.png").stat().st_size > 5000
    (axes,) = plot_metamers(judged).axes
    drawn = [
        tuple(point) for line in axes.lines for point in line.get_xydata() if line.get_transform() == axes.transData
    ]
    assert sorted(drawn) == sorted((each["top1_match"], each["unseen_match_mean"]) for each in judged)


def test_a_comparison_without_a_metric_of_consistency(tmp_path):
    write_comparison([{"name": "a", "family": "A", "fiber_weight": 0.0, "fiber_rms": 0.1}], tmp_path)
    assert (tmp_path / "comparison.csv").exists()
    assert not (tmp_path / "comparison.png").exists(), "axes without points"


def test_panels_share_a_metric_that_all_data_sets_have():
    one = {"name": "a", "family": "A", "fiber_weight": 0.0, "dataset": "one", "colour_kl": 0.1, "factor_ks": 0.2}
    two = {"name": "a", "family": "A", "fiber_weight": 0.0, "dataset": "two", "factor_ks": 0.3}
    assert consistency([one, two]) == "factor_ks"
    assert consistency([one]) == "colour_kl"


def test_results_that_do_not_compare(tmp_path):
    with pytest.raises(ValueError, match="expected results of one subject"):
        read_results([write(tmp_path / "1"), write(tmp_path / "2", subject="t")])
    with pytest.raises(FileNotFoundError, match=r"expected a metrics\.json"):
        read_results([tmp_path / "nowhere"])
    (tmp_path / "1" / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a result"):
        read_results([tmp_path / "1"])
    with pytest.raises(ValueError, match=r"expected results on the same split, got \['test', 'val'\]"):
        read_results([write(tmp_path / "3"), write(tmp_path / "4", split="val")])
    with pytest.raises(ValueError, match=r"got nan for 'fid'"):
        read_results([write(tmp_path / "5", fid=float("nan"))])
    for key in ("fiber_rms", "fid"):
        with pytest.raises(ValueError, match=rf"got None for '{key}'"):
            read_results([write(tmp_path / key, **{key: None})])
    with pytest.raises(ValueError, match="expected different folders"):
        read_results([tmp_path / "3", tmp_path / "." / "3"])


def test_different_numbers_of_targets_are_mentioned():
    assert not unequal_targets([{"num_targets": 500}, {"num_targets": 500}, {}])
    assert "between 32 and 2000 targets" in unequal_targets([{"num_targets": 2000}, {"num_targets": 32}])


def test_samples_that_do_not_belong_together():
    x = images(2)
    with pytest.raises(ValueError, match="do not belong"):
        FiberSamples(x, torch.zeros(2, 6), x[None, :1], torch.zeros(1, 1, 6))


def test_what_a_wrapped_model_wants_to_remember_it_gets():
    phi = subject()
    plain, _ = evaluate(NearestNeighbour(), phi, ColourDigits(), Choice(6, 2))
    wrapped, _ = evaluate(
        LatentDescent(NearestNeighbour(), phi, Identity((3, 28, 28)), steps=0), phi, ColourDigits(), Choice(6, 2)
    )
    moved, _ = evaluate(
        LatentDescent(NearestNeighbour(), phi, Identity((3, 28, 28))), phi, ColourDigits(), Choice(6, 2)
    )
    assert torch.equal(wrapped.x_hat, plain.x_hat)
    assert (moved.h_hat - moved.h).square().mean() < (plain.h_hat - plain.h).square().mean()


class TestInterrupted:
    """An evaluation that stops goes on where it was, and ends as if it had not."""

    class Stops(Pushforward, Reports):
        """Pushes noise, and stops when it is asked for the batch of number `at`."""

        image_shape, noise_shape, network_calls = (3, 28, 28), (3, 28, 28), 1

        def __init__(self, at: int | None = None) -> None:
            super().__init__()
            self.at, self.asked = at, 0

        def push(self, noise, h):
            if self.asked == self.at:
                raise KeyboardInterrupt
            self.asked += 1
            return noise.sigmoid()

        def report(self):
            return {"asked": 1.0}

    def drawn(self, folder, at=None, seed=5):
        model = self.Stops()
        partial = Partial(folder, model, "choice", seed)
        model.at = at
        return model, draw(model, subject(), images(10), 2, seed, batch_size=4, partial=partial)

    def test_it_goes_on(self, tmp_path):
        _, (whole, _, report) = self.drawn(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            self.drawn(tmp_path / "cut", at=2)
        model, (resumed, seconds, again) = self.drawn(tmp_path / "cut")
        assert model.asked == 1  # the last of three batches
        assert torch.equal(resumed.x_hat, whole.x_hat)
        assert torch.equal(resumed.h_hat, whole.h_hat)
        assert seconds > 0
        assert report == again == {"asked": pytest.approx(1.0)}

    def test_shares_make_the_whole(self, tmp_path):
        _, (whole, _, _) = self.drawn(tmp_path / "whole")
        model = self.Stops()
        drawings = [
            Drawing(model, subject(), images(10), 2, 5, 4, partial=Partial(tmp_path / "shared", model, "choice", 5))
            for _ in range(2)
        ]
        drawings[1].share(1, 2)
        assert drawings[0].undone() == [0, 2]
        drawings[0].share(0, 2)
        assert drawings[1].undone() == []
        assert torch.equal(drawings[1].gather()[0].x_hat, whole.x_hat)
        assert model.asked == 3

    def test_it_starts_anew_with_another_seed_or_damaged_files(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            self.drawn(tmp_path, at=1)
        assert self.drawn(tmp_path, seed=6)[0].asked == 3
        (tmp_path / "0001.safetensors").write_bytes(b"cut off")
        assert self.drawn(tmp_path, seed=6)[0].asked == 1

    def test_nothing_is_left_when_it_is_done(self, tmp_path, monkeypatch):
        monkeypatch.setattr(self.Stops, "network_calls", 100)
        samples, values = evaluate(
            self.Stops(), subject(), ColourDigits(), Choice(8, 2), unfinished=tmp_path / "partial"
        )
        assert not (tmp_path / "partial").exists()
        assert values["asked"] == 1
        assert samples.x_hat.shape[:2] == (2, 8)


class Photographs(Data, Images):
    """A data module of images with labels, of whose law nothing is known."""

    name = "photographs"

    def __init__(self, labels=None):
        self._labels = labels

    def split(self, split):
        return self

    def __len__(self):
        return 60

    def images(self, indices=slice(None)):
        return images(60)[indices]

    def batches(self, size):
        return ({"x": part} for part in self.images().split(size))

    def labels(self):
        return self._labels

    def set_epoch(self, epoch):
        """Nothing is random."""


class Negatives(Photographs, HasLaw):
    """The fiber of an image is the image and its negative: a law that has nothing to do with colours."""

    def members(self, x, n, generator=None):
        sign = torch.randint(2, (n, len(x), 1, 1, 1), generator=generator)
        return torch.where(sign.bool(), x, 1 - x)

    def factors(self, images):
        return images.mean((-3, -2, -1))[..., None].sub(0.5).sign()

    def law_scores(self, samples, exact):
        own, floor = (self.factors(each.x_hat).mean().abs().item() for each in (samples, exact))
        return {"balance": own, "balance_floor": floor, "nothing": float("nan")}


class Grey(DecolorisedEncoder):
    """Sees how far every pixel is from one half."""

    def forward(self, images):
        return super().forward(0.5 + (images - 0.5).abs())


def test_any_law_is_scored():
    data, phi = Negatives(), Grey(dim=FEATURES, width=16, blocks=1)
    samples, values = evaluate(Oracle(data), phi, data, Choice(20, 30))
    assert values["fiber_rms"] < 1e-5
    assert samples.x_hat.std(0).mean() > 0.1
    assert values["balance"] == pytest.approx(values["balance_floor"], abs=0.2)
    assert not [name for name in values if "colour" in name or name == "nothing"]


class Kinds(Photographs, HasCategories):
    """Labels are two categories: of even outputs, and of odd ones."""

    def categories(self):
        return [[0, 2, 4], [1, 3, 5]]


def test_categories_are_asked_of_the_data():
    p = subject()(images(60)).softmax(1)
    labels = torch.stack([p[:, part].mean(1) for part in Kinds().categories()], 1).argmax(1)
    _, values = evaluate(NearestNeighbour(), subject(), Kinds(labels), Choice(20, 2), judges=Judges(subject()))
    assert values["top1_accuracy_targets"] == 1


class TestUnknownLaw:
    """Images whose fibers nobody knows: what the subject and other networks say is all there is."""

    def test_nothing_is_said_of_colours(self):
        _, values = evaluate(NearestNeighbour(), subject(), Photographs(), Choice(20, 2))
        assert not [name for name in values if "colour" in name or "contrast" in name or "truth" in name]
        assert {"fiber_rms", "cosine", "mean_reciprocal_rank", "pairwise_distance"} <= set(values)

    def test_judges(self):
        labels = subject()(images(60)).argmax(1)
        judges = Judges(subject(), {"other": subject(1)}, {"other": subject(1)})
        _, values = evaluate(NearestNeighbour(), subject(), Photographs(labels), Choice(20, 2), judges=judges)
        assert values["top1_accuracy_targets"] == 1 > values["top1_accuracy_targets_other"]
        assert values["top1_match"] == values["top1_accuracy"]
        assert {"top1_match_other", "top5_match_other", "fid_other", "kid_other", "fid_other_floor"} <= set(values)
        _, most = evaluate(NearestNeighbour(), subject(), Photographs(), Choice(40, 2), judges=judges)
        assert "top1_accuracy" not in most
        assert "fid_other_floor" not in most, "there are not as many other images"


def real(**changes):
    own = {"name": "a", "family": "A", "fiber_weight": 0.0, "fiber_rms": 0.2, "cosine": 0.5, "subject": "s"}
    return own | {"dataset": "d", "num_targets": 50, "fid_net": 3.0, "fid_net_floor": 1.0} | changes


def test_columns_of_judges():
    rows = [real(top1_match=0.5, top1_match_b=0.25, top1_accuracy_targets=0.8), real(fid_x=1.0, kid_x_std=1.0)]
    assert list(headings(rows).values()) == [
        "model", "lambda", "fiber RMS", "cosine", "top-1", "top-1 by b", "accuracy on targets", "FID by net (floor)",
        "FID by x", "targets",
    ]  # fmt: skip
    assert list(columns(rows)) == [
        "name", "fiber_rms", "cosine", "top1_match", "top1_match_b", "fid_net", "num_targets"
    ]  # fmt: skip
    assert "| 50 % | 25 % | 3 (1) |" in markdown_table(rows)
    assert "cosine" not in columns([row(cosine=0.5, num_targets=3)]), "the law is known and says more"


def written(folder, **changes):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(real(**changes)))
    return folder


def test_comparison_without_a_known_law(tmp_path):
    rows = read_results([written(tmp_path / "1"), written(tmp_path / "2", fiber_weight=1.0, fid_net=2.0)])
    write_comparison(rows, tmp_path)
    assert (tmp_path / "comparison.png").stat().st_size > 5000
    assert "| FID by net (floor) |" in (tmp_path / "comparison.md").read_text()


def test_comparison_across_subjects(tmp_path):
    folders = [
        written(tmp_path / "1", subject_name="Cut(b)"),
        written(tmp_path / "2", subject="t", subject_name="Cut(a)"),
        written(tmp_path / "3", subject_name="Cut(b)", family="NearestNeighbour"),
    ]
    with pytest.raises(ValueError, match="expected results of one subject.*--across_subjects true"):
        read_results(folders)
    rows = read_results(folders, across_subjects=True)
    layers = [written(tmp_path / "pooled", subject_name="Cut(b, pooled)"), folders[0]]
    with pytest.raises(ValueError, match="expected results of one subject"):
        read_results(layers)
    assert [(r["subject_name"], r["family"]) for r in rows] == [
        ("Cut(a)", "A"), ("Cut(b)", "NearestNeighbour"), ("Cut(b)", "A"),
    ]  # fmt: skip
    write_comparison(rows, tmp_path)
    assert "| model | subject |" in (tmp_path / "comparison.md").read_text()
    with pytest.raises(ValueError, match="expected results on the same data"):
        read_results([*folders, written(tmp_path / "4", dataset="e")], across_subjects=True)


def test_a_subject_in_words():
    assert subject_name(subject()) == "DecolorisedEncoder"

    class Cut(DecolorisedEncoder):
        def __init__(self, network, network_args, layer):
            super().__init__(width=8, blocks=1)

    assert subject_name(Cut("mine.nets.ResNet", {"depth": 3}, "layer3.2")) == "Cut(ResNet, depth=3, layer3.2)"


MODEL = """\
name: ascent
subject: {class_path: fibermodels.suites.DecolorisedEncoder, init_args: {weights: WEIGHTS}}
data: {class_path: fibermodels.suites.ColourDigits}
model: {class_path: fibermodels.models.DecodedNoise, init_args: {latents: {class_path: fibermodels.latents.Identity,
  init_args: {image_shape: [3, 28, 28]}}}}
"""


@pytest.fixture
def files(tmp_path):
    """A model file of random images, and one that describes a network."""
    from scripts import ROOT

    weights = ROOT / "data" / "weights" / "colour_mnist" / "subject.safetensors"
    (tmp_path / "model.yaml").write_text(MODEL.replace("WEIGHTS", str(weights)))
    network = MODEL.splitlines()[1].removeprefix("subject: ").replace("WEIGHTS", str(weights))
    (tmp_path / "network.yaml").write_text(network)
    return tmp_path


def test_another_subject_and_data_for_a_model_file(files):
    options = ("--model", files / "model.yaml", "--subject", files / "network.yaml", "--subject.weights", "null")
    more = ("--subject.dim=9", "--data.variant", "uncorrelated", "--num_targets", 3, "--device", "cpu")
    done = run("evaluate.py", *options, *more, "--out", files / "out")
    assert done.returncode == 0, done.stderr
    assert load_samples(files / "out").h.shape == (3, 9)
    assert json.loads((files / "out" / "metrics.json").read_text())["dataset"] == "colour_digits_uncorrelated"


def test_changed_arguments_of_a_model_file_are_in_the_metrics(files):
    scale = ("--model.init_args.latents.init_args.scale", "2.0")
    options = ("--model", files / "model.yaml", *scale, "--data.batch_size", 9, "--num_targets", 2, "--device", "cpu")
    done = run("evaluate.py", *options, "--out", files / "out")
    assert done.returncode == 0, done.stderr
    values = json.loads((files / "out" / "metrics.json").read_text())
    assert {name: value for name, value in values.items() if name.startswith("model_")} == {"model_latents.scale": 2.0}


SIZE = ("--num_targets", 10, "--samples_per_target", 2, "--device", "cpu", "--batch_size", 3)


def test_two_processes_draw_the_samples_of_one(files, monkeypatch):
    drawn = []
    draw_one = Drawing._draw
    monkeypatch.setattr(Drawing, "_draw", lambda self, index: drawn.append(index) or draw_one(self, index))
    for processes in (1, 2):
        drawn.clear()
        options = ("--model", files / "model.yaml", *SIZE, "--processes", processes)
        done = run("evaluate.py", *options, "--out", files / str(processes))
        assert done.returncode == 0, done.stderr
        assert drawn == [*range(0, 4, processes)], "every batch, or every other one"
    one, two = ((files / name / "samples.safetensors").read_bytes() for name in "12")
    assert one == two
    scores = [json.loads((files / name / "metrics.json").read_text()) for name in "12"]
    cost = {"seconds_per_sample", "processes", "device", "commit"}
    assert {k: v for k, v in scores[0].items() if k not in cost} == {
        k: v for k, v in scores[1].items() if k not in cost
    }
    assert not (files / "2" / "partial").exists()


@pytest.mark.slow
def test_what_a_failed_process_leaves_is_known():
    with (
        pytest.warns(UserWarning, match="process 1 ended with status 2; its work is done here"),
        helped(partial(int, "x"), 2),
    ):
        pass


def test_judges_from_the_command_line(files):
    network = files / "network.yaml"
    (files / "evaluation.yaml").write_text(f"features:\n  own: {network}\nnum_targets: 7\nthresholds: [0.4]\n")
    options = ("--config", files / "evaluation.yaml", "--model", files / "model.yaml", "--samples_per_target", 2)
    judges = ("--classifier", network, "--judges.a", network, "--judges.b-2", network, "--device", "cpu")
    done = run("evaluate.py", *options, *judges, "--out", files / "out")
    assert done.returncode == 0, done.stderr
    values = json.loads((files / "out" / "metrics.json").read_text())
    assert values["num_targets"] == 7
    assert values["top1_match"] == values["top1_match_a"] == values["top1_match_b-2"]
    assert values["fid_own"] > values["fid_own_floor"] > 0
    assert {"top1_match_b-2", "fid_own"} <= set(headings([values]))


def test_distances_from_another_result(files):
    own = ("--model", files / "model.yaml", *SIZE)
    assert run("evaluate.py", *own, "--name", "prior", "--out", files / "prior").returncode == 0
    given = (*own, "--features.own", files / "network.yaml", "--seed", 1)
    done = run("evaluate.py", *given, "--reference", files / "prior", "--out", files / "guided")
    assert done.returncode == 0, done.stderr
    values = json.loads((files / "guided" / "metrics.json").read_text())
    assert values["reference"] == "prior"
    assert values["fid_own_reference"] > 0
    assert headings([values])["fid_own_reference"] == "FID by own to the reference"
    assert "FID by own to the reference" in done.stdout
    network = building.network("features.own", str(files / "network.yaml"))
    here, there = (load_samples(files / name) for name in ("guided", "prior"))
    known = feature_scores(network, "own", here, reference=there.x_hat)
    assert values["kid_own_reference"] == pytest.approx(known["kid_own_reference"], abs=1e-6)
    for options, message in (
        (("--reference", files / "nothing"), "expected the folder of a result with its samples.safetensors, which eva"),
        (("--reference", files / "prior", "--num_targets", 11), "reference: expected samples of at least 11 targets"),
    ):
        done = run("evaluate.py", *given, *options, "--out", files / "none")
        assert done.returncode == 2
        assert message in done.stderr
    done = run("evaluate.py", *own, "--reference", files / "prior", "--out", files / "none")
    assert "reference: expected --features.NAME FILE.yaml with it" in done.stderr
    assert not (files / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--judges.a", "nowhere.yaml"], "--judges.a: no file at 'nowhere.yaml'"),
        (["--classifier", "configs/parts/colour_mnist/vae.yaml"], "--classifier 'configs/parts/colour_mnist/vae.yaml'"),
        (["--judges", "a.yaml"], "--judges"),
        (["--processes", "0"], "processes: expected at least 1, got 0"),
        (["--processes", "5"], "at most the number of batches, 4 of 3 targets, got 5"),
        (["--batch_size", "0"], "batch_size: expected at least 1, got 0"),
        (["--thresholds", "[0.1, 0.2]"], "expected --classifier or --judges with them, got [0.1, 0.2]"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_is_wrong_with_judges_and_processes(options, message, files):
    done = run("evaluate.py", "--model", files / "model.yaml", *SIZE, *options, "--out", files / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
