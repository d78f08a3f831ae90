"""Applications against exact answers: linear networks and suites of known fibers, with exact samplers as models."""

import inspect
import json

import pytest
import torch
from scripts import run
from torch import Tensor

import fibermodels
from fibermodels.api.fitted import Fitted
from fibermodels.applications import APPLICATIONS, Finding, audit, invariance_map
from fibermodels.core import FiberModel, Pushforward, Subject
from fibermodels.models import Oracle
from fibermodels.noise import seeded
from fibermodels.suites import ColourDigits, DecolorisedEncoder
from fibermodels.suites.colour import backgrounds

SIDE, SPREAD = 6, 0.05
ORACLE = ("--checkpoint", "configs/digits/oracle.yaml", "--device", "cpu")


class Linear(Subject):
    """`h = A x` of grey images 6 x 6."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.image_shape, self.feature_shape = (1, SIDE, SIDE), (len(matrix),)
        self.matrix: Tensor
        self.register_buffer("matrix", matrix)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.matrix.T


class LinearFiber(Pushforward):
    """Exact: normal pixels about 1/2 with a deviation of .05, given `A x = h`."""

    network_calls = 0

    def __init__(self, subject: Linear) -> None:
        super().__init__()
        self.matrix, self.inverse = subject.matrix, torch.linalg.pinv(subject.matrix)
        self.image_shape, self.noise_shape = subject.image_shape, (SIDE * SIDE,)

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        x = 0.5 + SPREAD * noise
        return (x + (h - x @ self.matrix.T) @ self.inverse.T).unflatten(1, self.image_shape)


def linear(rows: int = 12, name: str = "left") -> Linear:
    """A network that sees random mixtures of the pixels in the left half."""
    matrix = torch.randn(rows, SIDE, SIDE, generator=seeded(name)) / SIDE
    matrix[:, :, SIDE // 2 :] = 0
    return Linear(matrix.flatten(1))


def pictures(count: int) -> Tensor:
    return 0.5 + SPREAD * torch.randn(count, 1, SIDE, SIDE, generator=seeded("pictures"))


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])


@pytest.fixture(scope="module")
def digits():
    """Colour digits with the exact sampler and a subject that is blind to colour, of random weights."""
    data = ColourDigits()
    torch.manual_seed(0)
    return data, Oracle(data), DecolorisedEncoder(width=32, blocks=1), data.split("test").images(slice(6))


class TestEach:
    """What all applications share: the method, the command with its files, and the picture."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        return tmp_path_factory.mktemp("found")

    @pytest.mark.parametrize(
        ("name", "options"),
        [("invariance_map", ["--n", 4]), ("audit", ["--n", 2, "--shuffles", 100, "--targets", 12])],
        ids=lambda v: v,
    )
    def test_command_and_report(self, name, options, folder):
        given = (
            "--checkpoint",
            "configs/digits/oracle.yaml",
            "--targets",
            3,
            "--device",
            "cpu",
            "--out",
            folder / name,
        )
        done = run("fibermodels", "explore", name, *given, *options)
        assert not done.returncode, done.stderr
        values = json.loads((folder / name / "metrics.json").read_text())
        assert values["name"] == name
        merit = next(key for key in values if f"{key}_null" in values)
        page = (folder / name / "report.html").read_text()
        assert f"{values[merit]:.3g}" in page
        assert page.count("data:image/png") >= 3
        assert "://" not in page, "it loads nothing"
        assert (folder / name / "figure.png").read_bytes().startswith(b"\x89PNG")
        assert "exists" in run("fibermodels", "explore", name, *given, *options).stderr

    def test_each_is_a_method_of_a_model_at_hand(self, digits):
        _, oracle, subject, x = digits
        run = Fitted(oracle, subject)
        for name, function in APPLICATIONS.items():
            own = getattr(run, name)
            assert inspect.signature(own).parameters, name
            assert list(inspect.signature(function).parameters)[:3] == ["model", "subject", "images"]
            assert getattr(fibermodels.applications, name) is function
        found = run.invariance_map(x[0], n=4)
        assert isinstance(found, Finding)
        assert found._repr_png_().startswith(b"\x89PNG")
        assert repr(found).startswith("InvarianceMap(change along the fiber ")

    def test_the_command_names_what_is_wrong(self, tmp_path):
        done = run("fibermodels", "explore", "invariance_map", *ORACLE, "--out", tmp_path, "--directions", 0)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "directions" in done.stderr


class TestInvarianceMap:
    def test_it_is_the_null_space_of_the_jacobian(self):
        """The spread of a linear network's fiber is the diagonal of the projection on the null space, by autograd."""
        subject = linear()
        x = pictures(2)
        found = invariance_map(LinearFiber(subject), subject, x, n=400)
        jacobian = torch.autograd.functional.jacobian(subject, x[:1]).reshape(12, -1)
        projection = torch.eye(SIDE**2) - torch.linalg.pinv(jacobian) @ jacobian
        truth = SPREAD * projection.diagonal().clamp(min=0).sqrt().view(SIDE, SIDE)
        for spread in found.spread:
            assert correlation(spread, truth) > 0.98
            torch.testing.assert_close(spread.mean(), truth.mean(), rtol=0.05, atol=0)
        leading = found.directions.flatten(2)
        torch.testing.assert_close(leading @ projection, leading, rtol=0, atol=1e-4)
        assert found.merits[0].value < 1e-5 < found.merits[0].null

    def test_it_sees_what_a_network_does_not_ignore(self):
        """Samples that ignore the condition vary in pixels that the network sees: the figure of merit is its null."""
        subject = linear()
        blind = LinearFiber(Linear(torch.zeros(1, SIDE**2)))
        blind.push = lambda noise, h: (0.5 + SPREAD * noise).unflatten(1, blind.image_shape)
        found = invariance_map(blind, subject, pictures(16), n=200, directions=4)
        assert 0.7 < found.merits[0].value / found.merits[0].null < 1.4

    def test_colour_digits_vary_in_colour_only(self, digits):
        """The deviation of each pixel is that of `(1 - m) c + m (c + 1/2 mod 1)` under the law of the colour `c`."""
        data, oracle, subject, x = digits
        found = invariance_map(oracle, subject, x[:3], n=256, directions=3, factors=data.factors)
        c = backgrounds(torch.randn(4000, 1, generator=seeded("law")))[:, 0]
        ink = data.content(x[:3]).flatten(1)  # (B, D)
        law = (1 - ink[..., None]) * c + ink[..., None] * ((c + 0.5) % 1)
        truth = law.clamp(0, 1).std(-1).view_as(found.spread)
        assert correlation(found.spread, truth) > 0.95
        assert found.shares.sum(1).min() > 0.5
        assert found.factors.shape == (3, 3)
        torch.testing.assert_close(found.factors.mean(), c.std(), rtol=0.15, atol=0)

    def test_errors_name_the_argument(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="invariance_map: directions"):
            invariance_map(oracle, subject, x, directions=0)
        with pytest.raises(ValueError, match="invariance_map: n"):
            invariance_map(oracle, subject, x, n=2)
        with pytest.raises(ValueError, match="images: expected shape"):
            invariance_map(oracle, subject, x[:, :1])


CLASSES, SIZE = 4, 16


class Decision(Subject):
    """One-hot decisions: the band of rows that is brightest, or class 0 wherever there is a mark, if it `reads` it."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.image_shape, self.feature_shape, self.reads = (3, SIZE, SIZE), (CLASSES,), reads
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        bands = images.mean((1, 3)).unflatten(1, (CLASSES, -1)).mean(2).argmax(1)
        mark = images[:, 0, -2:, -2:].mean((1, 2)) - images[:, 1, -2:, -2:].mean((1, 2)) > 0.8
        return torch.nn.functional.one_hot(bands.where(~mark | (not self.reads), 0), CLASSES).float()


class Pool(FiberModel):
    """Exact: images of the population that have the same representation."""

    network_calls = 0

    def __init__(self, subject: Subject, population: Tensor) -> None:
        super().__init__()
        self.population, self.known = population, subject(population)

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        rows = []
        for own in h:
            same = (self.known == own).flatten(1).all(1).nonzero()[:, 0]
            rows.append(self.population[same[torch.randint(len(same), (n,), generator=generator)]])
        return torch.stack(rows, 1)


def bands(count: int, marked: float, name: str) -> tuple[Tensor, Tensor]:
    """Images with a bright band for their class and, independently, a mark in a corner at a rate; and their classes."""
    generator = seeded("bands", name)
    label = torch.randint(CLASSES, (count,), generator=generator)
    x = 0.2 + 0.2 * torch.rand(count, 3, SIZE, SIZE, generator=generator)
    x += 0.3 * torch.rand(count, 3, 1, 1, generator=generator)
    where = torch.arange(SIZE) // (SIZE // CLASSES) == label[:, None]
    x = x + 0.25 * where[:, None, :, None]
    mark = torch.rand(count, generator=generator) < marked
    x[mark, :, -2:, -2:] = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    return x.clamp(0, 1), label


class TestAudit:
    CORNER = 63

    def place(self, found):
        return {(each.label, int(found.cues.places[each.index])) for each in found.found}

    def test_a_planted_cue_is_found(self):
        """The mark is independent of the class in the population, and decides for class 0."""
        population, _ = bands(3000, 0.1, "population")
        x, label = bands(240, 0.1, "data")
        subject = Decision(reads=True)
        found = audit(Pool(subject, population), subject, x, label, n=8, shuffles=200)
        assert (0, self.CORNER) in self.place(found)
        suspect = next(each for each in found.found if int(found.cues.places[each.index]) == self.CORNER)
        assert suspect.interval[0] > suspect.data
        assert suspect.rate > 4 * suspect.others
        assert found.merits[0].value > found.merits[0].null

    def test_a_removed_cue_and_a_clean_network_are_not_blamed(self):
        x, label = bands(240, 0.1, "data")
        for reads, marked in ((False, 0.1), (True, 0.0)):
            population, _ = bands(3000, marked, "population")
            subject = Decision(reads)
            own = x if marked else bands(240, 0.0, "data")[0]
            found = audit(Pool(subject, population), subject, own, label, n=8, shuffles=200)
            assert not found.found
            assert "nothing" in repr(found)

    def test_a_judge_is_a_cue(self):
        population, _ = bands(3000, 0.1, "population")
        x, label = bands(240, 0.1, "data")
        subject = Decision(reads=True)
        found = audit(Pool(subject, population), subject, x, label, judges={"other": Decision(False)}, shuffles=100)
        assert "other: class 3" in found.cues.names
        assert any(each.label == 0 and each.cue.startswith("other: class") for each in found.suspects)

    def test_labels_must_fit(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="audit: labels: expected one for each of 6 images"):
            audit(oracle, subject, x, torch.zeros(5))
