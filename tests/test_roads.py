"""Points, tables and codes by each road, as a new user takes them: no code beyond the network."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from scripts import run as command
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fibermodels as fm
from fibermodels.api.fitted import Fitted
from fibermodels.data import Arrays, Table
from fibermodels.data.arrays import read_arrays
from fibermodels.data.given import as_data, read_inputs
from fibermodels.models import NearestNeighbour
from fibermodels.noise import seeded
from fibermodels.pictures import Plot
from fibermodels.spaces import InputSpace
from fibermodels.subjects import Codes, Live, SparseAutoencoder

POINTS = torch.randn(40, 2, generator=seeded("points"))


def nearest(network, data, layer="logits"):
    """A model without training of a network of vectors."""
    x = data.split("train").inputs()
    subject = Live(network, layer, input_shape=list(x.shape[1:]))
    return Fitted(NearestNeighbour().remember(x, subject(x)), subject, data)


def test_packages_are_at_hand_after_the_import():
    code = "import fibermodels as fm; print(fm.data.Table.__name__, fm.subjects.Codes.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["Table", "Codes"], done.stderr
    assert {"data", "subjects", "fit"} <= set(dir(fm))
    with pytest.raises(AttributeError, match="has no attribute 'date'"):
        _ = fm.date


class TestPoints:
    def test_a_list_of_numbers_is_one_point_and_a_list_of_points_is_a_batch(self):
        run = nearest(nn.Linear(2, 1), as_data(POINTS))
        assert run.sample([0.5, 0.2], n=3).shape == (3, 2)
        assert run.sample([[0.5, 0.2]], n=3).shape == (3, 1, 2)
        assert run.sample(list(POINTS[:4]), n=3).shape == (3, 4, 2)
        assert run.sample(POINTS[0].numpy(), n=3).shape == (3, 2)
        with pytest.raises(ValueError, match=r"input: expected a tensor, an array or a list of numbers.*got a dict"):
            run.sample({"x": 1}, n=3)

    @pytest.mark.parametrize("shape", [(40, 2), (40, 1, 6)])
    def test_data_sets_and_loaders_of_points_and_signals(self, shape):
        x, y = torch.randn(shape, generator=seeded("x")) + 5, torch.arange(40) % 2
        for given in (TensorDataset(x, y), DataLoader(TensorDataset(x, y), 7)):
            data = as_data(given)
            every = torch.cat([data.split(split).inputs() for split in ("train", "val", "test")])
            torch.testing.assert_close(every.flatten(1).sum(1).sort().values, x.flatten(1).sum(1).sort().values)
            assert set(data.split("test").labels().tolist()) <= {0, 1}

    def test_a_file_of_another_kind_is_named_with_what_is_expected(self, tmp_path):
        torch.save(POINTS, tmp_path / "points.pt")
        with pytest.raises(ValueError, match=r"points\.pt': expected a folder of images, or a file that ends in \.csv"):
            as_data(tmp_path / "points.pt")

    def test_init_says_how_points_are_given(self, tmp_path):
        (tmp_path / "points.csv").write_text("1,2\n3,4\n")
        given = ("--network", "torch.nn.Linear", "--images", tmp_path / "points.csv", "--out", tmp_path / "a.yaml")
        done = command("fibermodels", "init", *given)
        assert done.returncode == 2
        assert "images: expected a folder of images" in done.stderr
        assert "give a file of numbers as --data" in done.stderr

    def test_whole_numbers_are_no_points(self):
        with pytest.raises(ValueError, match=r"inputs: expected floating point for points.*got torch.int64 \[40, 2\]"):
            as_data(torch.ones(40, 2, dtype=torch.long))

    def test_a_guided_prior_of_images_refuses_points(self, tmp_path):
        for given in (POINTS[0], tmp_path / "points.csv"):
            with pytest.raises(ValueError, match="image: expected an image, because the prior is over images, got"):
                fm.explore(nn.Linear(2, 1), given)


class TestTable:
    def test_rows_of_a_file_are_in_its_units(self, tmp_path):
        data = Table()
        run = nearest(nn.Linear(30, 2), data)
        x = data.split("test").inputs(slice(3))
        torch.testing.assert_close(data.standardised(data.restored(x.double())), x, rtol=1e-4, atol=1e-5)
        file = tmp_path / "rows.csv"
        file.write_text("\n".join(",".join(map(repr, row)) for row in data.restored(x.double()).tolist()))
        torch.testing.assert_close(run.sample(file, n=2), run.sample(x, n=2))
        torch.testing.assert_close(run.inputs(file), x, rtol=1e-4, atol=1e-5)

    def test_the_command_line_samples_in_the_units_of_the_file(self, tmp_path):
        sizes = "{in_features: 30, out_features: 2}"
        linear = f"{{network: torch.nn.Linear, layer: logits, input_shape: [30], network_args: {sizes}}}"
        (tmp_path / "model.yaml").write_text(
            f"name: rows\nsubject: {{class_path: fibermodels.subjects.Cut, init_args: {linear}}}\n"
            "data: {class_path: fibermodels.data.Table}\nmodel: {class_path: fibermodels.models.NearestNeighbour}\n"
        )
        data = Table()
        train = data.restored(data.split("train").inputs().double())
        (tmp_path / "rows.csv").write_text(",".join(map(repr, train[0].tolist())))
        given = ("--checkpoint", tmp_path / "model.yaml", "--inputs", tmp_path / "rows.csv", "-n", 1, "--device", "cpu")
        done = command("fibermodels", "sample", *given, "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        with (tmp_path / "out" / "samples.csv").open() as file:
            (line,) = csv.DictReader(file)
        found = torch.tensor([float(line[f"x{i}"]) for i in range(30)], dtype=torch.double)
        torch.testing.assert_close(found, train[0], rtol=1e-4, atol=1e-4)  # its own row is the nearest

    def test_columns_of_a_file_are_found_by_their_names(self, tmp_path):
        """In any order, with or without the classes; what is missing or unknown is named."""
        lines = [["a", "kind", "b"], *([str(i / 7), "xy"[i % 2], str(i / 3)] for i in range(60))]
        (tmp_path / "t.csv").write_text("\n".join(map(",".join, lines)))
        data, file = Table(str(tmp_path / "t.csv"), "kind"), tmp_path / "rows.csv"
        for text in ("b,a\n2,1", "a,kind,b\n1,x,2", "kind,b,a\ny,2,1", "1,2", "1,x,2"):
            file.write_text(text)
            assert data.rows(file).tolist() == [[1, 2]], text
        file.write_text("a,c\n1,2")
        with pytest.raises(
            ValueError, match=r"rows.csv': expected the columns of t, .*missing: \['b'\], unknown: \['c'\]"
        ):
            data.rows(file)
        file.write_text("1,2,3,4")
        with pytest.raises(
            ValueError, match="expected the 2 columns of t, with or without the column of classes, got 4"
        ):
            data.rows(file)

    def test_the_command_of_applications_is_for_images(self, tmp_path):
        sizes = "{in_features: 30, out_features: 2}"
        linear = f"{{network: torch.nn.Linear, layer: logits, input_shape: [30], network_args: {sizes}}}"
        (tmp_path / "model.yaml").write_text(
            f"name: rows\nsubject: {{class_path: fibermodels.subjects.Cut, init_args: {linear}}}\n"
            "data: {class_path: fibermodels.data.Table}\nmodel: {class_path: fibermodels.models.NearestNeighbour}\n"
        )
        given = ("--checkpoint", tmp_path / "model.yaml", "--out", tmp_path / "out")
        done = command("fibermodels", "explore", "invariance_map", *given)
        assert done.returncode == 2
        assert (
            "invariance_map: expected a model of images, because its answers are pictures; this subject" in done.stderr
        )


class TestSignals:
    def test_a_network_that_takes_two_signals_for_one_is_refused(self):
        """A convolution of torch takes `(B, L)` for one signal of `B` channels."""
        for channels in (1, 2):
            with pytest.raises(ValueError, match=f"{channels} channels|expected 2 outputs for 2 inputs of .8., got 4"):
                Live(nn.Conv1d(channels, 4, 3, padding=1), "logits", input_shape=[8])

    def test_rows_of_a_file_take_the_shape_of_the_signals(self, tmp_path):
        x = torch.randn(20, 8, generator=seeded("waves"))
        np.save(tmp_path / "waves.npy", x.numpy())
        data = Arrays(str(tmp_path / "waves.npy"), input_shape=[2, 4])
        assert data.split("train").inputs().shape == (16, 2, 4)
        torch.testing.assert_close(read_inputs(tmp_path / "waves.npy", InputSpace((2, 4))), x.view(20, 2, 4))
        with pytest.raises(ValueError, match=r"expected inputs of \[3, 3\], got \[8\]"):
            Arrays(str(tmp_path / "waves.npy"), input_shape=[3, 3]).split("train")


class TestCSV:
    @pytest.mark.parametrize("text", ["a,b\n.5,1\n", "0,1\n.5,1\n", "\ufeffa,b\n\n.5,1\n", " a , b \n .5 , 1 \n"])
    def test_names_are_no_numbers(self, tmp_path, text):
        """Nor are the counts that pandas writes above an array."""
        (tmp_path / "x.csv").write_text(text, encoding="utf-8")
        assert read_arrays(tmp_path / "x.csv")[0].tolist() == [[0.5, 1]]

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("0,1\n5,1\n", None),
            ("1,2\n3\n", "line 1 has 2 and line 2 has 1"),
            ("1,2\n3,x\n", "column 'column 1' has the text 'x' in line 2; a table with a column of classes is"),
            ("1,\n3,4\n", "column 'column 1': 1 values are missing or not finite, the first in line 1"),
            (",a\n0,4\n", "column 0 has no name"),
            ("", "expected lines of values"),
            ("y\n1\n", "there is no column beside y"),
        ],
    )
    def test_what_is_wrong_is_named_by_column_and_line(self, tmp_path, text, word):
        (tmp_path / "x.csv").write_text(text)
        if word is None:
            assert len(read_arrays(tmp_path / "x.csv")[0]) == 2
            return
        with pytest.raises(ValueError, match=word):
            read_arrays(tmp_path / "x.csv")


def test_samples_far_from_the_data_do_not_shrink_a_plot_of_points():
    from fibermodels.pictures import Plot, new_figure

    x = torch.rand(40, 2, generator=seeded("x"))
    x_hat = x[None] + 0.01 * torch.randn(5, 40, 2, generator=seeded("near"))
    x_hat[0, :4] = 1000.0
    plot = Plot(x, x_hat)
    for low, high in plot.limits:
        assert -1.5 < low < 0.1
        assert 0.9 < high < 2.5
    axes = new_figure(2, 2).subplots()
    plot.density(axes, of_samples=True)
    assert [text.get_text() for text in axes.texts] == ["2.0% outside"]


def test_a_plot_of_one_row_has_the_scale_of_its_samples():
    """One target has no deviation: its samples would be a million away."""
    x, x_hat = torch.zeros(1, 5), 100 * torch.randn(200, 1, 5, generator=seeded("hat"))
    plot = Plot(x, x_hat)
    assert plot.x_hat.std() == pytest.approx(1, abs=0.05)
    many = Plot(torch.randn(50, 5, generator=seeded("x")), x_hat.expand(-1, 50, -1))
    assert many.x_hat.std() == pytest.approx(100, rel=0.2)  # of the targets


class TestCodes:
    @pytest.fixture(scope="class")
    def network(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())

    def test_a_dictionary_of_a_network_in_one_call(self, network, capsys):
        images = torch.rand(60, 3, 16, 16, generator=seeded("images"))
        few, more = (
            fm.codes(network, images, "spatial", 24, k=3, steps=steps, batch_size=16, progress=steps > 1, device="cpu")
            for steps in (1, 60)
        )
        assert isinstance(more, Codes)
        assert more.feature_shape == (24, 4, 4)
        assert not any(p.requires_grad for p in more.parameters())
        assert (more(images[:4]) > 0).sum(1).max() <= 3
        maps = more.subject(images)
        explained = [own.autoencoder.scores(maps, None)["explained"].mean() for own in (few, more)]
        assert explained[1] > explained[0]
        assert "24 features of spatial: " in (said := capsys.readouterr().out)
        assert "of the variance explained" in said
        assert next(network.parameters()).requires_grad  # it stays as it is
        with pytest.raises(ValueError, match="codes: steps: expected a number of at least 1, got 0"):
            fm.codes(network, images, steps=0)

    def test_codes_by_fit_score_save_and_load(self, network, tmp_path):
        images = torch.rand(60, 3, 16, 16, generator=seeded("images"))
        codes = Codes(Live(network, "spatial", [3, 16, 16]), SparseAutoencoder([8, 4, 4], 16, k=2))
        run = fm.fit(codes, images, minutes=0.01, runs=tmp_path, progress=False, device="cpu")
        samples = run.sample(images[0], n=2)
        assert samples.shape == (2, 3, 16, 16)
        assert run.score(4, 2)["fiber_rms"] > 0
        assert len(run.plot(images[:2], n=1).axes) > 0
        run.save(tmp_path / "saved")
        again = fm.load(tmp_path / "saved", subject=network)
        assert isinstance(again.subject, Codes)
        torch.testing.assert_close(again.sample(images[0], n=2), samples)

    def test_codes_from_the_command_line(self, tmp_path):
        """A dictionary is trained and exported, and samples of its features' fibers are scored, by configs alone."""
        np.save(tmp_path / "maps.npy", torch.randn(40, 3, 8, 8, generator=seeded("maps")).numpy())
        sizes = {"in_channels": 3, "out_channels": 4, "kernel_size": 1}
        cut = {"network": "torch.nn.Conv2d", "layer": "logits", "input_shape": [3, 8, 8], "network_args": sizes}
        cut = {"class_path": "fibermodels.subjects.Cut", "init_args": cut}
        data = {"class_path": "fibermodels.data.Arrays", "init_args": {"file": str(tmp_path / "maps.npy")}}
        sparse = {"input_shape": [4, 8, 8], "features": 12, "k": 2}
        learner = {"class_path": "fibermodels.subjects.SparseAutoencoder", "init_args": sparse}
        maps = {"data": data, "subject": cut, "folder": str(tmp_path / "cache")}
        training = {
            "name": "sparse",
            "data": {"class_path": "fibermodels.data.Representations", "init_args": maps},
            "model": {"learner": learner},
            "ema_decay": 0.0,
            "trainer": {"max_epochs": 1},
        }
        (tmp_path / "sparse.yaml").write_text(yaml.safe_dump(training))
        done = command("fibermodels", "train", "--config", tmp_path / "sparse.yaml", "--runs", tmp_path)
        assert done.returncode == 0, done.stderr
        last = tmp_path / "sparse" / "checkpoints" / "last.ckpt"
        done = command("fibermodels", "export", "--checkpoint", last, "--out", tmp_path / "dictionary")
        assert done.returncode == 0, done.stderr
        sparse["weights"] = str(tmp_path / "dictionary.safetensors")
        codes = {"subject": cut, "autoencoder": learner, "units": [3, 7]}
        model = {
            "name": "codes",
            "subject": {"class_path": "fibermodels.subjects.Codes", "init_args": codes},
            "data": data,
            "model": {"class_path": "fibermodels.models.NearestNeighbour"},
        }
        (tmp_path / "codes.yaml").write_text(yaml.safe_dump(model))
        size = ("--num_targets", 4, "--samples_per_target", 1, "--device", "cpu")
        done = command("fibermodels", "evaluate", "--model", tmp_path / "codes.yaml", *size, "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "out" / "metrics.json").read_text())["fiber_rms"] >= 0
        assert "Codes" in (tmp_path / "out" / "report.html").read_text()

    def test_a_network_that_is_no_subject_is_refused(self, network):
        with pytest.raises(ValueError, match=r"Codes: subject: expected a Subject, such as subjects\.Live.*Sequential"):
            Codes(network, SparseAutoencoder([8, 4, 4], 16))
