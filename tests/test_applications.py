"""Applications against exact answers: linear networks and suites of known fibers, with exact samplers as models."""

import inspect
import itertools
import json

import pytest
import torch
from scripts import run
from torch import Tensor

import fibermodels
from fibermodels.api.fitted import Fitted
from fibermodels.applications import (
    APPLICATIONS,
    Finding,
    compare,
    compose,
    counterfactual,
    disagree,
    interpolate,
    invariance_map,
    maximise,
    move,
    select,
    steer,
)
from fibermodels.applications.concepts import by_chance, clustered, factorised
from fibermodels.applications.drawing import fibers
from fibermodels.applications.selecting import farthest, medoids, nearest
from fibermodels.core import FiberModel, HasLogProb, Pushforward, Subject
from fibermodels.latents import Identity
from fibermodels.models import Oracle
from fibermodels.noise import seeded
from fibermodels.suites import BlobMoments, Blobs, ColourDigits, DecolorisedEncoder
from fibermodels.suites.colour import backgrounds
from fibermodels.trainable import TrainableFiberModel

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


PIXELS = ("--space", "pixel", "--steps", 3)
OPTIONS = {
    "audit": ("--shuffles", 200, "--copies", 0),
    "counterfactual": ("--label", 3, *PIXELS),
    "disagree": ("--second", "configs/parts/colour_mnist/subject.yaml", *PIXELS),
    "maximise": ("--unit", 3, *PIXELS),
}
"""Of the commands in the test."""

QUICK = ("audit", "counterfactual")
"""Commands that the default tests run."""


def slow(name: str) -> list[pytest.MarkDecorator]:
    return [] if name in QUICK else [pytest.mark.slow]


COMMANDS = [name for name in APPLICATIONS if name != "compose"]
"""Applications that the exact model of the digits can serve, whose representation is no map."""


class TestEach:
    """What all applications share: the method, the command with its files, and the picture."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        return tmp_path_factory.mktemp("found")

    @pytest.mark.parametrize("name", [pytest.param(own, marks=slow(own)) for own in COMMANDS])
    def test_command_and_report(self, name, folder):
        given, options = (*ORACLE, "--targets", 12, "--out", folder / name), OPTIONS.get(name, ())
        options = (*options, *(() if PIXELS[0] in options or name == "audit" else ("--n", 4)))
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


class Normal(TrainableFiberModel, HasLogProb):
    """Normal pixels about 1/2, whatever the condition, and minus the squared distance as their density."""

    network_calls = 0

    def __init__(self) -> None:
        super().__init__(Identity([1, SIDE, SIDE]), [12])

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.latents.encode(0.5 + SPREAD * noise, h)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(z, h)}

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        return -(self.latents.decode(z, h) - 0.5).flatten(1).square().sum(1)


class TestSelect:
    def test_medoids_are_the_best_choice(self):
        """Against all choices of 3 of 12 points; two clusters of a line get a point each."""
        for seed in range(5):
            points = torch.randn(12, 2, generator=seeded("points", seed))
            distances = torch.cdist(points, points)
            best = min(float(distances[:, list(own)].amin(1).sum()) for own in itertools.combinations(range(12), 3))
            assert float(distances[:, medoids(distances, 3)].amin(1).sum()) <= 1.1 * best
        line = torch.tensor([0.0, 1, 2, 100, 101, 103])[:, None]
        assert sorted(medoids(torch.cdist(line, line), 2).tolist()) == [1, 4]
        assert farthest(torch.cdist(line, line), 3).tolist() == [2, 5, 3]

    def test_chosen_members_cover_more_than_random_ones(self, digits):
        _, oracle, subject, x = digits
        found = select(oracle, subject, x[:3], k=4, n=100)
        assert (found.distance < 0.96 * found.random).all()
        torch.testing.assert_close(found.shares.sum(0), torch.ones(3))
        assert (found.shares.diff(dim=0) <= 0).all()
        judged = select(oracle, subject, x[:1], k=2, n=20, judge=DecolorisedEncoder(width=32, blocks=1))
        assert judged.merits[0].value < 1e-4, "the judge is blind to what differs"

    def test_the_most_likely_are_those_near_the_middle(self, digits):
        """A normal law of the pixels: the density falls with the distance from its mean."""
        subject = linear()
        found = select(Normal(), subject, pictures(3), k=5, n=40, method="likelihood")
        far = (found.samples - 0.5).flatten(2).square().sum(2)  # (k, B)
        drawn = fibers(Normal(), subject, pictures(3), 80, 0).x_hat[:40]
        every = (drawn - 0.5).flatten(2).square().sum(2)
        torch.testing.assert_close(far.sort(0).values, every.sort(0).values[:5])
        merit = found.merits[0]
        torch.testing.assert_close(merit.value, -float(far.mean()) / SIDE**2)
        assert merit.value > merit.null
        _, oracle, own, x = digits
        with pytest.raises(ValueError, match="select: method: 'likelihood' needs a model with a density"):
            select(oracle, own, x[:1], k=2, n=4, method="likelihood")

    def test_coverage_is_the_distance_to_the_nearest(self):
        distances = torch.tensor([[[1.0, 5.0, 3.0], [4.0, 2.0, 0.5]]])
        assert nearest(distances, torch.tensor([[0, 1]])) == 1.5
        assert nearest(distances, torch.tensor([[0, 2]])) == 0.75


class TestCompare:
    def test_a_network_and_itself_are_at_the_null(self, digits):
        _, oracle, subject, x = digits
        found = compare(oracle, subject, x, n=8)
        for merit in found.merits[:2]:
            assert merit.value == merit.null == 0.5

    def test_the_one_that_sees_more_tells_apart(self):
        """A sees the left half; B sees all that A sees, and mixtures of all pixels."""
        a = linear()
        more = torch.randn(6, SIDE**2, generator=seeded("more")) / SIDE
        b = Linear(torch.cat((a.matrix, more)))
        found = compare(LinearFiber(a), a, pictures(4), LinearFiber(b), b, n=8)
        by_b, by_a = found.merits[:2]
        assert by_b.value > 0.99 > 0.6 > by_b.null
        assert 0.4 < by_a.value < 0.6
        distance = found.merits[2]
        exact = float(
            ((more @ (torch.eye(SIDE**2) - torch.linalg.pinv(a.matrix) @ a.matrix)).square().sum() / 18).sqrt()
        )
        torch.testing.assert_close(
            float(found.by_second.other.square().mean().sqrt()) / SPREAD, exact, rtol=0.5, atol=0
        )
        assert distance.value > 100 * distance.null


class Maps(Linear):
    """The pixels of each quarter, weighted: maps `(4, 2, 2)`."""

    def __init__(self) -> None:
        super().__init__(torch.eye(SIDE**2))
        self.feature_shape = (4, 2, 2)
        self.register_buffer("weight", torch.rand(4, SIDE // 2, SIDE // 2, generator=seeded("maps")))

    def forward(self, images: Tensor) -> Tensor:
        parts = images.reshape(-1, 1, 2, SIDE // 2, 2, SIDE // 2).transpose(3, 4)  # (B, 1, 2, 2, 3, 3)
        return (parts * self.weight[:, None, None]).sum((4, 5))


class TestMixing:
    def test_a_linear_network_reaches_each_condition_between(self):
        subject = linear()
        x = pictures(6)
        found = interpolate(LinearFiber(subject), subject, x, steps=3)
        torch.testing.assert_close(found.cosine, torch.ones(3, 1, 3))
        middle = subject(found.samples[1, 0])
        torch.testing.assert_close(middle, (subject(x[:3]) + subject(x[3:])) / 2, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.cosine_pixels, torch.ones(3, 3))  # pixels of a linear network mix, too
        ends = LinearFiber(subject).sample(subject(x[:3]), 1, seeded("samples", 0))
        torch.testing.assert_close(found.samples[0], ends)  # the noise of other samples

    def test_a_network_that_bends_is_not_reached_by_pixels(self):
        """Blobs: the moments of a mean image are not the mean of moments; the exact sampler of moments reaches them."""
        data, subject = Blobs(size=20), BlobMoments()
        x = data.split("train").images(slice(8))
        found = interpolate(MomentSampler(data), subject, x, steps=5)
        by_end, by_pixels = found.merits
        assert by_end.value > by_end.null + 0.02
        assert by_pixels.value > by_pixels.null + 0.02

    def test_the_nearer_end_is_the_null(self):
        """By hand, from the samples at the ends."""
        subject, x = linear(), pictures(6)
        found = interpolate(LinearFiber(subject), subject, x, steps=3, n=2)
        h = [subject(found.samples[at].flatten(0, 1)).unflatten(0, (2, 3)) for at in (0, 2)]
        middle = (subject(x[:3]) + subject(x[3:])) / 2
        near = torch.stack([torch.cosine_similarity(own, middle, dim=-1).mean(0) for own in h]).amax(0)
        torch.testing.assert_close(found.cosine_ends[1].mean(0), near)
        merit = found.merits[0]
        gain = (found.cosine - found.cosine_ends)[1].mean(0)
        assert merit.gain[0] < float(gain.mean()) < merit.gain[1]
        assert found.figures()["cosine_to_the_asked_gain_low"] == merit.gain[0]

    def test_composed_maps_are_half_of_each(self):
        subject = Maps()
        flat = Linear(torch.autograd.functional.jacobian(subject, pictures(1)).reshape(16, SIDE**2))
        model = LinearFiber(flat)
        push = model.push
        model.push = lambda noise, h: push(noise, h.flatten(1))
        x = pictures(4)
        for half, part in (("left", (..., slice(0, 1))), ("bottom", (..., slice(1, 2), slice(None)))):
            found = compose(model, subject, x, half)
            reached, a, b = subject(found.samples[0, 0]), subject(x[:2]), subject(x[2:])
            torch.testing.assert_close(reached[part], a[part], rtol=1e-4, atol=1e-5)
            rest = (..., slice(1, 2)) if half == "left" else (..., slice(0, 1), slice(None))
            torch.testing.assert_close(reached[rest], b[rest], rtol=1e-4, atol=1e-5)

    def test_errors(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="interpolate: images: expected an even number"):
            interpolate(oracle, subject, x[:3])
        with pytest.raises(ValueError, match=r"compose: subject: expected maps"):
            compose(oracle, subject, x)


class MomentSampler(FiberModel):
    """Exact: blobs with the moments that a condition starts with."""

    network_calls = 0

    def __init__(self, data: Blobs) -> None:
        super().__init__()
        self.data = data

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        subject = BlobMoments()
        content = h[:, :4] * subject.std + subject.mean
        noise = torch.randn(n, len(h), 6, generator=generator)
        return torch.stack([self.data.render(content, self.data.draw(own, content)) for own in noise])


def logits(rows: int, name: str) -> Linear:
    """A linear classifier of sharp decisions."""
    matrix = torch.randn(rows, SIDE**2, generator=seeded(name))
    return Linear(20 / SIDE * (matrix - matrix.mean(1, keepdim=True)))  # grey decides for nothing


class Whole(LinearFiber):
    """The sampler of the network that sees all pixels: what it is told is the image."""

    def __init__(self) -> None:
        super().__init__(Linear(torch.eye(SIDE**2)))


class TestMoving:
    def test_a_move_takes_the_direction_of_the_weights(self):
        """Two classes of a linear classifier: the cross-entropy falls along the difference of their weights."""
        classifier = logits(2, "classes")
        found = counterfactual(Whole(), Linear(torch.eye(SIDE**2)), pictures(4), 1, classifier, near=0.0, steps=10)
        change = (found.move.end - found.move.start).flatten(1)
        weights = classifier.matrix[1] - classifier.matrix[0]
        torch.testing.assert_close(torch.cosine_similarity(change, weights[None]), torch.ones(4), rtol=0, atol=1e-3)
        torch.testing.assert_close(change.norm(dim=1), (found.move.random - found.move.start).flatten(1).norm(dim=1))

    def test_counterfactuals_are_valid_and_random_moves_are_not(self):
        """A judge with nearly the same weights agrees; the box keeps all other pixels."""
        classifier = logits(3, "three")
        near = Linear(classifier.matrix + torch.randn(3, SIDE**2, generator=seeded("noise")) / SIDE)
        x = pictures(40)
        x = x[classifier(x).argmax(1) != 2]
        options = {"label": 2, "judges": {"near": near}, "near": 0.1, "steps": 20, "step_size": 0.02}
        found = counterfactual(Whole(), classifier, x, space="pixel", **options)
        by_judges, own, _ = found.merits
        assert own.value == 1
        assert by_judges.value > 0.9
        assert max(by_judges.null, own.null) < 0.6
        boxed = counterfactual(Whole(), classifier, x, space="pixel", box=[0, 0, 3, 6], **options)
        assert boxed.move.distance(inside=False).max() == 0 < boxed.move.distance().min()

    def test_the_way_to_the_nearest_unlike_neighbour(self):
        """With the exact sampler, all is linear: the end is the first eighth of the way that is decided otherwise."""
        classifier, subject, x = logits(2, "classes"), Linear(torch.eye(SIDE**2)), pictures(60)
        kind = classifier(x).argmax(1)
        own, references = x[kind == 0][:8], x[20:]
        found = counterfactual(Whole(), subject, own, 1, classifier, references=references)
        known = references[classifier(references).argmax(1) == 1]
        nearest = known[torch.cdist(own.flatten(1), known.flatten(1)).argmin(1)]
        for i in range(8):
            way = [torch.lerp(own[i], nearest[i], part / 8) for part in range(9)]
            first = next(each for each in way if classifier(each[None]).argmax() == 1)
            torch.testing.assert_close(found.move.end[i], first, rtol=0, atol=1e-4)
        lengths = [(each - found.move.start).flatten(1).norm(dim=1) for each in (found.move.end, found.move.random)]
        torch.testing.assert_close(*lengths)
        assert found.merits[0].value == 1
        with pytest.raises(ValueError, match="references: expected images that are decided for class 1"):
            counterfactual(Whole(), subject, own, 1, classifier, references=own)
        with pytest.raises(ValueError, match="space: 'neighbour' needs references"):
            counterfactual(Whole(), subject, own, 1, classifier, space="neighbour")

    @pytest.mark.parametrize("space", ["condition", "noise", "pixel"])
    def test_any_cost_is_lowered_in_any_space(self, space):
        """A cost that a user wrote: the distance to grey, which a move near to the start lowers less."""
        x, subject = pictures(3), Linear(torch.eye(SIDE**2))
        model = LinearFiber(linear()) if space == "noise" else Whole()
        told = linear() if space == "noise" else subject

        def grey(images):
            return (images - 0.5).flatten(1).square().mean(1)

        size = 0.02 if space == "pixel" else 0.3
        free, held = (move(model, told, x, grey, space, near=near, step_size=size) for near in (0.0, 100.0))
        assert (grey(free.end) < 0.5 * grey(free.start)).all()
        assert (held.distance() < free.distance()).all()
        assert len(free.path) == 5
        torch.testing.assert_close(free.path[0], free.start)

    def test_what_cannot_move(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="space: 'noise' needs a model that pushes noise"):
            counterfactual(oracle, subject, x, space="noise")
        with pytest.raises(ValueError, match="box: expected"):
            counterfactual(oracle, subject, x, space="pixel", box=[0, 0, 40, 4])
        with pytest.raises(ValueError, match="counterfactual: label"):
            counterfactual(oracle, subject, x, label=48)
        with pytest.raises(ValueError, match="disagree: second: expected a classifier"):
            disagree(oracle, subject, x)

    def test_classifiers_disagree_where_their_weights_differ(self):
        """Equal classifiers have no gap; others reach a larger one than any given image has."""
        one, two = logits(3, "one"), logits(3, "two")
        x = pictures(20)
        options = {"k": 5, "space": "pixel", "near": 0.0, "steps": 30, "step_size": 0.05}
        found = disagree(Whole(), one, x, two, judge=one, **options)
        gap, agrees = found.merits
        assert gap.value > 0.95
        assert gap.value > gap.null
        assert agrees.value == 1 > agrees.null
        same = disagree(Whole(), one, x, logits(3, "one"), **options)
        assert same.merits[0].value == same.merits[0].null == 0

    def test_a_unit_changes_alone(self):
        """The condition of a linear network moves along one unit: the unit changes by all steps, others do not."""
        subject = linear(6)
        found = maximise(LinearFiber(subject), subject, pictures(30), unit=2, k=4, steps=10, step_size=0.1)
        up, change = found.merits
        h = subject(pictures(30))
        exact = 5.5 * 0.1 * 6**0.5 * float(h.std() / h[:, 2].std())  # steps from 1 to .1, of all units together
        torch.testing.assert_close(change.value, exact, rtol=2e-2, atol=0)
        assert change.null < 1e-3
        assert up.value > up.null


class Centred(Linear):
    """`h = A (x - 1/2)`: 0 for grey."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - 0.5)


class CentredFiber(LinearFiber):
    """The exact sampler of `Centred`."""

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return super().push(noise, h + self.matrix.sum(1) / 2)


class TestSteer:
    def test_an_exact_model_follows_the_concept(self):
        subject, x = linear(8), pictures(200)
        h = subject(x)
        found = steer(LinearFiber(subject), subject, x[:5], references=x, coefficients=[0.0, 2.0])
        _, axes = torch.linalg.eigh(torch.cov(h.T))
        assert abs(float(found.basis[0] @ axes[:, -1])) > 0.999
        torch.testing.assert_close(found.followed[0], torch.ones(5), rtol=0, atol=1e-3)
        assert found.judged is None

    @pytest.mark.parametrize("method", ["contrast", "pca"])
    def test_the_class_of_a_concept_rises_in_judges_that_read_it(self, method):
        """The first unit decides for the class. A judge that reads it sees the class rise, one that reads its opposite
        sees it fall as far, and one that reads another unit sees no rise."""
        matrix, x = torch.linalg.qr(linear(8).matrix.T)[0].T, pictures(2000)  # independent units
        matrix[0] *= 4
        subject = Centred(matrix)
        scale = 1 / float(subject(x)[:, 0].std())

        def rise(unit, sign):
            judges = {"a": Centred(torch.stack((-sign * matrix[unit], sign * matrix[unit])) * scale)}
            reader = Centred(torch.stack((-matrix[0], matrix[0])))
            options = {"classifier": reader, "coefficients": [0.0, 4.0], "method": method, "k": 60, "n": 2}
            return steer(CentredFiber(subject), subject, x, None, 1, judges=judges, **options).merits[0]

        up, down, blind = rise(0, 1), rise(0, -1), rise(4, 1)
        assert up.value > 0.4
        assert up.gain[0] > 0.2, "random subspaces vary as the network does, so they hold much of this unit, too"
        assert abs(up.value + down.value) < 1e-4
        assert abs(blind.value) < 0.1

    def test_random_subspaces_lie_where_the_vectors_vary(self):
        known = torch.randn(500, 6, generator=seeded("vary")) * torch.tensor([1.0, 1, 1, 0, 0, 0]) + 7
        bases = by_chance(known, 2, 50, 0)
        torch.testing.assert_close(bases @ bases.mT, torch.eye(2).expand(50, 2, 2), rtol=0, atol=1e-5)
        assert bases[..., 3:].abs().max() < 1e-5
        assert bases.flatten(0, 1).mean(0).abs().max() < 0.3

    def test_what_cannot_be_steered(self):
        subject, x = linear(6), pictures(20)
        with pytest.raises(ValueError, match="steer: label: judges"):
            steer(LinearFiber(subject), subject, x, judges={"a": subject})
        with pytest.raises(ValueError, match="steer: references: expected images that are decided for class 1"):
            steer(LinearFiber(subject), subject, x, x[subject(x).argmax(1) == 1], label=1)
        with pytest.raises(ValueError, match="steer: classifier: expected logits"):
            steer(LinearFiber(subject), subject, x, label=1, classifier=Maps())

    def test_parts_and_clusters_are_those_of_the_data(self):
        """Mixtures without negative weights of three known parts, and three known clusters."""
        generator = seeded("parts")
        parts = torch.eye(3).repeat_interleave(4, 1)
        weights = torch.rand(400, 3, generator=generator) * (torch.rand(400, 3, generator=generator) < 0.5)
        found = factorised(weights @ parts, 3, generator)
        near = (torch.nn.functional.normalize(parts, dim=1) @ found.T).amax(1)
        assert near.min() > 0.99
        label = torch.arange(300) % 3
        vectors = parts[label] + 0.1 * torch.randn(300, 12, generator=generator)
        own = clustered(vectors, 3, generator)
        assert all(len(own[label == j].unique()) == 1 for j in range(3))
        assert len(own.unique()) == 3

    def test_negative_entries_have_no_parts(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="steer: method: 'nmf' expects"):
            steer(oracle, subject, x, method="nmf")
