"""Tables: what is read, what is refused, and what their columns say of a fiber."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import wasserstein_distance
from scripts import run as script

from fibermodels.api.fit import fit
from fibermodels.api.load import load
from fibermodels.config import build, describe
from fibermodels.core import FiberSamples, Subject
from fibermodels.data import Table
from fibermodels.data.table import DISTINCT, embedded, read_table
from fibermodels.metrics import column_w1
from fibermodels.metrics.columns import column_distances, movement, sensitivity, wasserstein
from fibermodels.noise import seeded

ROOT = Path(__file__).parents[1]


def write(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def stars(tmp_path):
    """A file as HTRU2's: eight numbers and a class, without names."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 8)) * np.arange(1, 9) + 100
    return write(
        tmp_path / "stars.csv", [",".join([*map(repr, row.tolist()), str(i % 3 // 2)]) for i, row in enumerate(rows)]
    )


class TestTable:
    def test_training_columns_have_mean_0_and_deviation_1_and_are_restored(self):
        data, source = Table(), embedded()
        x = data.split("train").inputs()
        torch.testing.assert_close(x.mean(0), torch.zeros(30), atol=1e-5, rtol=0)
        torch.testing.assert_close(x.std(0, correction=0), torch.ones(30), atol=1e-5, rtol=0)
        every = torch.cat([data.restored(data.split(split).inputs().double()) for split in ("train", "val", "test")])
        assert len(every) == len(source.x)
        order, theirs = (rows[rows.sum(1).argsort()] for rows in (every, source.x))
        torch.testing.assert_close(order, theirs, rtol=1e-4, atol=1e-4)

    def test_every_split_has_the_classes_in_proportion(self):
        data = Table()
        share = (embedded().y == 1).double().mean()
        for split in ("train", "val", "test"):
            y = data.split(split).labels()
            assert abs((y == 1).double().mean() - share) < 1 / len(y)
            assert set(y[:20].tolist()) == {0, 1}
        assert data.classes == ["malignant", "benign"]
        assert len(data.columns) == 30

    def test_a_file_without_names_is_read_as_htru2(self, stars):
        data = Table(stars)
        assert data.name == "stars"
        assert data.classes == ["0", "1"]
        assert data.columns == [f"column {i}" for i in range(8)]
        sizes = [len(data.split(split)) for split in ("train", "val", "test")]
        assert sizes == [36, 12, 12]
        twin = build(describe(data))
        assert torch.equal(twin.split("test").inputs(), data.split("test").inputs())
        assert not torch.equal(Table(stars, seed=1).split("test").inputs(), data.split("test").inputs())

    def test_the_classes_may_be_text_in_a_named_column(self, tmp_path):
        path = write(tmp_path / "t.csv", ["kind, a", *(f"{'xy'[i % 2]}, {i / 7}" for i in range(30))])
        found = read_table(path, "kind")
        assert (found.names, found.classes) == (["a"], ["x", "y"])
        assert found.y[:3].tolist() == [0, 1, 0]

    @pytest.mark.parametrize(
        ("lines", "word"),
        [
            (
                [f"{i / 3},{'red' if i else 2},0" for i in range(50)],
                "column 'column 1' has the text 'red' in line 2, so it is categorical",
            ),
            ([f"{i / 3},{i % DISTINCT},0" for i in range(50)], f"'column 1' has {DISTINCT} different values"),
            ([f"{i / 3},{i / 7 if i else ''},0" for i in range(50)], "'column 1': 1 values are missing"),
            (
                [f"{i / 3},{i / 7 if i else 'inf'},0" for i in range(50)],
                "'column 1': 1 values are missing or not finite",
            ),
            (["1,2,3", "1,2"], "equally many values"),
            (["1", "2"], "at least two"),
        ],
        ids=["text", "few", "missing", "infinite", "ragged", "one"],
    )
    def test_what_is_no_table_of_numbers_is_refused_with_a_reason(self, tmp_path, lines, word):
        with pytest.raises(ValueError, match=word):
            read_table(write(tmp_path / "t.csv", lines))

    def test_errors_of_the_arguments(self, stars, tmp_path):
        with pytest.raises(ValueError, match=r"val_size: expected a share in \(0, 0.5\)"):
            Table(val_size=0.5)
        with pytest.raises(ValueError, match="label: expected one of the columns"):
            read_table(stars, "class")
        with pytest.raises(ValueError, match="label: expected a number from -9 to 8, got 9"):
            read_table(stars, 9)
        with pytest.raises(FileNotFoundError, match="nothing at"):
            Table(str(tmp_path / "none.csv")).split("test")


class Linear(Subject):
    """`x A` of five columns, of which it does not see the last two."""

    def __init__(self):
        super().__init__()
        self.input_shape, self.feature_shape = (5,), (2,)
        self.register_buffer("a", torch.tensor([[3.0, 0], [0, 2], [1, 1], [0, 0], [0, 0]]))
        self.freeze()

    def forward(self, images):
        return images @ self.a


def of(x, x_hat):
    return FiberSamples(x, x[:, :1], x_hat, x_hat[..., :1])


class TestColumns:
    def test_the_distance_is_scipys(self):
        a, b = torch.randn(40, 3, generator=seeded("a")), 2 * torch.randn(25, 3, generator=seeded("b")) + 1
        known = [wasserstein_distance(a[:, i].numpy(), b[:, i].numpy()) for i in range(3)]
        torch.testing.assert_close(wasserstein(a, b), torch.tensor(known).float())

    def test_a_shift_is_its_own_distance_in_deviations_and_a_new_order_is_none(self):
        x = torch.randn(50, 4, generator=seeded("x")) * torch.tensor([1.0, 10, 100, 1000])
        shift = torch.tensor([0.5, -1.0, 2.0, 0.0]) * x.std(0, correction=0)
        found = column_distances(of(x, torch.stack([x + shift, x.flip(0) + shift])))
        torch.testing.assert_close(found, torch.tensor([0.5, 1.0, 2.0, 0.0]), atol=1e-4, rtol=1e-4)
        assert column_w1(of(x, x.flip(0)[None])) == pytest.approx(0, abs=1e-4)

    def test_it_is_for_vectors(self):
        x = torch.rand(2, 3, 4, 4)
        assert math.isnan(column_w1(FiberSamples(x, x[:, :, 0, 0], x[None], x[None, :, :, 0, 0])))
        assert math.isnan(column_w1(of(torch.rand(1, 3), torch.rand(2, 1, 3))))

    def test_exact_samples_move_where_the_network_does_not_look(self):
        """On the fibers of a linear map with Gaussian rows the law is known: the projection on its kernel."""
        subject, x = Linear(), torch.randn(400, 5, generator=seeded("x"))
        inverse = torch.linalg.pinv(subject.a)
        onto_kernel = torch.eye(5) - subject.a @ inverse
        x_hat = (x @ subject.a) @ inverse + torch.randn(10, 400, 5, generator=seeded("z")) @ onto_kernel
        torch.testing.assert_close(subject(x_hat[0]), subject(x), atol=1e-4, rtol=1e-4)
        known = (2 * onto_kernel.diagonal()).sqrt()
        torch.testing.assert_close(movement(of(x, x_hat)), known, atol=0.08, rtol=0.05)
        seen = sensitivity(subject, x) / x.std(0, correction=0)
        torch.testing.assert_close(seen, torch.tensor([3.0, 2.0, 2**0.5, 0, 0]))
        assert column_w1(of(x, x_hat)) < 0.08


class TestRoad:
    """From a table to samples, scores and a report, with no code of the user's beyond the network."""

    def test_fit_takes_the_table(self, tmp_path):
        torch.manual_seed(0)
        data, network = Table(), torch.nn.Linear(30, 2)
        run = fit(network, data, "logits", 0.01, runs=tmp_path, progress=False)
        row = data.split("test").inputs(slice(1))[0]
        samples = run.sample(row, n=3)
        assert samples.shape == (3, 30)
        assert data.restored(samples).isfinite().all()
        scores = run.score(20, 2)
        assert scores["fiber_rms"] > 0
        assert scores["column_w1"] > 0
        assert len(run.plot(n=2).axes) > 0
        run.save(tmp_path / "saved")
        again = load(tmp_path / "saved", subject=network)
        torch.testing.assert_close(again.sample(row, n=3), samples)

    def test_the_command_line_takes_a_file_of_ones_own(self, stars, tmp_path):
        linear = {"network": "torch.nn.Linear", "layer": "logits", "input_shape": [8]}
        linear["network_args"] = {"in_features": 8, "out_features": 2}
        own = {
            "subject": {"class_path": "fibermodels.subjects.Cut", "init_args": linear},
            "data": {"class_path": "fibermodels.data.Table", "init_args": {"file": stars}},
        }
        config = yaml.safe_load((ROOT / "configs/table/flow_matching.yaml").read_text()) | own
        config["model"]["learner"]["init_args"]["latents"]["init_args"]["input_shape"] = [8]
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
        once = ("--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1", "--runs", tmp_path)
        done = script("train.py", "--config", tmp_path / "own.yaml", "--name", "own", *once)
        assert done.returncode == 0, done.stderr
        last, out = tmp_path / "own/checkpoints/last.ckpt", tmp_path / "result"
        done = script("evaluate.py", "--checkpoint", last, "--num_targets", 12, "--device", "cpu", "--out", out)
        assert done.returncode == 0, done.stderr
        values = json.loads((out / "metrics.json").read_text())
        assert values["dataset"] == "stars"
        assert values["column_w1"] > 0
        assert "column W1" in (out / "report.html").read_text()
        assert (out / "samples.png").is_file()
