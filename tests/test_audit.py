"""The audit against exact answers: networks of which it is known what they decide by."""

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from fibermodels.applications import audit
from fibermodels.applications.holding import distinct, statistics
from fibermodels.applications.marks import Marks, changes
from fibermodels.applications.marks import statistics as of_marks
from fibermodels.applications.suspects import Null, beyond
from fibermodels.core import Subject
from fibermodels.models import SameDecision
from fibermodels.noise import seeded

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


def pool(subject: Subject, population: Tensor) -> SameDecision:
    """Exact: images of the population that are decided in the same way."""
    return SameDecision().remember(population, subject(population))


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


def judged(network, x, label, marked, **options):
    """An audit over a population with marks at a rate."""
    population, _ = bands(3000, marked, "population")
    return audit(pool(network, population), network, x, label, **{"shuffles": 200, "copies": 0, **options})


class TestAudit:
    CORNER = 63

    def test_a_planted_cue_is_found(self):
        """The mark is independent of the class in the population, and decides for class 0."""
        x, label = bands(1000, 0.1, "data")
        found = judged(Decision(reads=True), x, label, 0.1)
        assert (0, self.CORNER) in {(each.label, each.place) for each in found.found}
        suspect = next(each for each in found.found if each.place == self.CORNER)
        assert suspect.interval[0] > suspect.data
        assert suspect.rate > 4 * suspect.others
        assert found.merits[0].value > found.merits[0].null

    def test_a_removed_cue_and_a_clean_network_are_not_blamed(self):
        for reads, marked in ((False, 0.1), (True, 0.0)):
            x, label = bands(600, marked, "data")
            found = judged(Decision(reads), x, label, marked)
            assert not found.found
            assert "nothing" in repr(found)

    def test_marks_are_found_where_no_image_has_one(self):
        """A square in the corner; another corner or class is not blamed."""
        x, label = bands(500, 0.0, "data")
        found = judged(Decision(reads=True), x, label, 0.0, copies=8)
        assert {(each.label, each.place) for each in found.found} == {(0, self.CORNER)}
        assert not judged(Decision(reads=False), x, label, 0.0, copies=4).found

    def test_a_judge_is_a_cue(self):
        x, label = bands(1000, 0.1, "data")
        found = judged(Decision(reads=True), x, label, 0.1, judges={"other": Decision(False)})
        family = found.families[0]
        assert "other: class 3" in family.names
        assert family.statistics[0, family.names.index("other: class 3")] > 2

    def test_what_networks_of_the_same_kind_do_is_not_blamed(self):
        """The cue of all networks is part of the null."""
        x, label = bands(400, 0.1, "data")
        same = {name: Decision(True) for name in "abc"}
        assert not judged(Decision(True), x, label, 0.1, copies=4, others=same).found
        clean = {name: Decision(False) for name in "abc"}
        assert judged(Decision(True), x, label, 0.1, copies=4, others=clean).found

    def test_errors(self):
        x, label = bands(100, 0.0, "data")
        with pytest.raises(ValueError, match="audit: labels: expected one for each of 100 images"):
            judged(Decision(False), x, label[:5], 0.0)
        with pytest.raises(ValueError, match="audit: others: expected none or at least 3"):
            judged(Decision(False), x, label, 0.0, others={"a": Decision(False)})
        with pytest.raises(ValueError, match="audit: copies: 12 copies of images are too few"):
            judged(Decision(False), x[:12], label[:12], 0.0, copies=1)


class TestStatistics:
    def test_equal_samples_of_a_class_count_once(self):
        x = torch.randn(4, 1, 2, 2, generator=seeded("rows"))
        rows = torch.tensor([0, 1, 0, 2, 1, 0])
        kept = distinct(x[rows], torch.tensor([0, 0, 1, 0, 0, 0]))
        assert kept.tolist() == [0, 1, 2, 3]

    def test_p_values_of_draws_with_replacement_are_uniform(self):
        """A population of 60 images shown 200 times: without copies, one p-value in ten is below .1."""
        generator, small = seeded("copies"), 0
        for _ in range(60):
            cues = (torch.rand(260, 5, generator=generator) < 0.3).float()
            data, population = cues[:200], cues[200:]
            place = torch.arange(200) % 2
            rows = torch.randint(60, (200,), generator=generator)
            kept = distinct(rows.float()[:, None], place)
            values = torch.cat((data, population[rows[kept]]))
            label = torch.cat((place, place[kept]))
            sampled = torch.arange(len(values)) >= 200
            found = statistics(values, label, sampled, 2).max()
            null = []
            for _ in range(19):
                order = torch.randperm(len(values), generator=generator)
                null.append(statistics(values[order], label, sampled, 2).max())
            small += Null(torch.stack(null), torch.empty(0)).pvalue(float(found)) <= 0.1
        assert small <= 12, "the 99 % quantile of a binomial law of 60 draws"

    def test_the_statistic_is_normal_under_the_null(self):
        generator = seeded("normal")
        values = (torch.rand(4000, 500, generator=generator) < 0.05).float()
        place, sampled = torch.arange(4000) % 4, torch.rand(4000, generator=generator) < 0.5
        found = statistics(values, place, sampled, 4)
        assert abs(float(found.mean())) < 0.1
        assert 0.9 < float(found.std()) < 1.1

    def test_other_networks_predict_one_more(self):
        """With many of them, the p-value is that of the normal law of their logarithms; with few, it is larger."""
        generator, shuffled = seeded("networks"), torch.full((10000,), 0.1)
        many = Null(shuffled, torch.randn(2000, generator=generator).exp())
        assert many.pvalue(float(torch.tensor(2.0).exp())) == pytest.approx(norm.sf(2), rel=0.25)
        assert many.limit(0.05) == pytest.approx(float(torch.tensor(norm.isf(0.05)).exp()), rel=0.1)
        hits = 0
        for _ in range(1000):
            draws = torch.randn(5, generator=generator).exp()
            hits += Null(shuffled, draws[:4]).pvalue(float(draws[4])) <= 0.05
        assert 30 <= hits <= 75, "one in twenty, whatever their number"

    def test_what_other_networks_have_in_common_is_taken_away(self):
        """The rest has the variance of one statistic, whatever the number of networks."""
        generator = seeded("beyond")
        common = 10 * torch.randn(4, 5000, generator=generator)
        drawn = [common + torch.randn(4, 5000, generator=generator) for _ in range(4)]
        own, others = beyond(drawn[0], drawn[1:])
        for each in (own, *others):
            assert abs(float(each.std()) - 1) < 0.05
        torch.testing.assert_close(own, (drawn[0] - torch.stack(drawn[1:]).mean(0)) / (4 / 3) ** 0.5)
        torch.testing.assert_close(others[2], (drawn[3] - (drawn[1] + drawn[2]) / 2) / 1.5**0.5)
        assert beyond(common, []) == (common, [])


class TestMarks:
    def test_a_corner_has_as_many_squares_as_other_places(self):
        own = Marks.drawn(torch.zeros(400, 3, 32, 32), 4, 0)
        held, names, _ = own.cues()
        counts = {name: float(held[:, i].sum()) for i, name in enumerate(names)}
        corner, middle = (counts[f"square at row {i}, column {i}"] for i in (8, 4))
        assert 0.8 < corner / middle < 1.25

    def test_squares_are_where_they_are_said_to_be(self):
        x = torch.zeros(3, 3, 20, 30)
        own = Marks.drawn(x, 2, 0)
        painted = own.painted(x, torch.arange(6))
        assert own.rows.tolist() == [0, 1, 2, 0, 1, 2]
        for row in range(6):
            top, left, side = int(own.top[row, -1]), int(own.left[row, -1]), int(own.side[row, -1])
            assert 2 <= side <= 4
            patch = painted[row, :, top : top + side, left : left + side]
            assert patch.shape[1:] == (side, side)
            torch.testing.assert_close(patch, own.colour[row, -1, :, None, None].expand_as(patch))
        assert (painted == 0).all(1).any()

    def test_the_statistic_is_the_mean_in_standard_errors(self):
        change = torch.tensor([[1.0, 0], [0, 0], [0, -1], [0, 1]])
        held = torch.tensor([[1.0], [1], [0], [0]])
        found = of_marks(change, held)
        torch.testing.assert_close(found[0, 0], torch.tensor((0.5 - 0.25) / (0.1875 / 2 + 1 / 4) ** 0.5))
        torch.testing.assert_close(found[1, 0], torch.tensor(0.0))
        both = changes(torch.tensor([0, 2]), torch.tensor([2, 2]), torch.tensor([0, 2]))
        assert both.tolist() == [[-1, 1], [0, 0]]
