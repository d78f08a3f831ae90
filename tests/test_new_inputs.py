"""`fibermodels init --data`: a table, points or signals and a network, with nothing else written by the user."""

import csv
import json
import re
import shlex

import numpy as np
import pytest
import torch
import yaml
from scripts import run
from sklearn.datasets import load_breast_cancer

from fibermodels.config import build
from fibermodels.data import Table
from fibermodels.noise import seeded

NETWORK = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, columns=6):
        super().__init__(nn.Linear(columns, 8), nn.ReLU(), nn.Linear(8, 2))


class Ear(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(1, 4, 5, padding=2), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean(2))
"""


def write(path, lines):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder: a module, and files of numbers."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "vectors.py").write_text(NETWORK)
    found = load_breast_cancer()
    rows = [
        [*row[:6], str(found.target_names[y])] for row, y in zip(found.data[:150].tolist(), found.target, strict=False)
    ]
    names = [*(str(name) for name in found.feature_names[:6]), "diagnosis"]
    write(folder / "cancer.csv", [names, *rows])
    write(folder / "plain.csv", [names[:6], *(row[:6] for row in rows)])
    write(folder / "counted.csv", [["", *names], *([i, *row] for i, row in enumerate(rows))])
    write(folder / "colour.csv", [["colour", *names], *(["red", *row] for row in rows)])
    write(folder / "stage.csv", [["stage", *names], *([i % 3, *row] for i, row in enumerate(rows))])
    write(folder / "still.csv", [names, *([*row[:3], 7, *row[4:]] for row in rows)])
    write(folder / "hole.csv", [names, *([*row[:3], "" if i == 4 else row[3], *row[4:]] for i, row in enumerate(rows))])
    points = torch.randn(60, 6, generator=seeded("points")).numpy()
    np.save(folder / "points.npy", points)
    np.savetxt(folder / "waves.csv", torch.randn(60, 16, generator=seeded("waves")).numpy(), delimiter=",")
    return folder


def init(home, *arguments):
    return run("fibermodels", "init", *arguments, cwd=home, FIBERMODELS_IMPORTS="")


def written(home, out, *arguments):
    """The file that `init` writes, and what it says."""
    done = init(home, *arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(out.read_text()), done.stdout


ROADS = {
    "cancer": "--network vectors.Net --data cancer.csv --label diagnosis",
    "points": "--network vectors.Net --data points.npy",
    "waves": "--network vectors.Ear --data waves.csv --layer conv",
}


def by_hand(home, folder, words, *more):
    """A command that `init` has printed, with files in a folder and further options."""
    assert words[:2] == ["FIBERMODELS_IMPORTS=vectors", "fibermodels"]
    own = [str(folder / word) if word.startswith(("runs/", "samples/", "results/")) else word for word in words[2:]]
    done = run("fibermodels", *own, *more, cwd=home, FIBERMODELS_IMPORTS="vectors")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(params=["cancer", *(pytest.param(name, marks=pytest.mark.slow) for name in ("points", "waves"))])
def road(home, tmp_path, request):
    """The data's name and the commands that `init` prints, the first of which has run for an epoch."""
    _, said = written(home, tmp_path / "a.yaml", *ROADS[request.param].split())
    train, *commands = (shlex.split(re.search(rf"to {aim}: (.*)", said)[1]) for aim in ("train", "sample", "score"))
    few = ("--trainer.max_epochs", 1, "--trainer.check_val_every_n_epoch", 1)
    by_hand(home, tmp_path, train, *few, "--runs", tmp_path / "runs")
    return request.param, commands


def test_the_printed_commands_train_and_sample(home, tmp_path, road):
    """Samples of test rows, and of the rows of the file itself, with its classes and in its units."""
    name, (sample, _) = road
    by_hand(home, tmp_path, sample, "--device", "cpu")
    with (tmp_path / "samples/a/samples.csv").open() as file:
        assert {row["image"] for row in csv.DictReader(file)} <= {f"test#{i}" for i in range(8)}
    assert (tmp_path / "samples/a/samples.png").is_file()
    file = {"cancer": "cancer.csv", "points": "points.npy", "waves": "waves.csv"}[name]
    words = [*sample[: sample.index("--targets")], "--inputs", file, "-n", "1", "--out", "samples/file"]
    by_hand(home, tmp_path, words, "--device", "cpu")
    with (tmp_path / "samples/file/samples.csv").open() as file:
        assert len(list(csv.DictReader(file))) == {"cancer": 150, "points": 60, "waves": 60}[name]


@pytest.mark.slow
def test_the_printed_commands_score(home, tmp_path, road):
    """All inputs of a small test split are targets."""
    name, (_, score) = road
    by_hand(home, tmp_path, score, "--device", "cpu", "--samples_per_target", 2)
    values = json.loads((tmp_path / "results/a/metrics.json").read_text())
    assert (values["dataset"], values["num_targets"]) == (name, {"cancer": 30, "points": 6, "waves": 6}[name])
    assert (tmp_path / "results/a/report.html").is_file()


def test_what_the_file_of_a_table_says(home, tmp_path):
    content, said = written(
        home, tmp_path / "a.yaml", "--network", "vectors.Net", "--data", "cancer.csv", "--label", "diagnosis"
    )
    assert content["data"]["class_path"] == "fibermodels.data.Table"
    assert content["data"]["init_args"] | {"batch_size": 0} == {
        "file": "cancer.csv", "label": "diagnosis", "batch_size": 0, "val_size": 0.2,
    }  # fmt: skip
    assert content["subject"]["init_args"] == {
        "network": "vectors.Net", "layer": "logits", "input_shape": [6], "mean": None, "weights": "a.safetensors",
    }  # fmt: skip
    learner = content["model"]["learner"]
    assert learner["class_path"] == "fibermodels.models.FlowMatching"
    assert learner["init_args"]["latents"]["init_args"] == {"input_shape": [6]}  # its rows are standardised
    trainer = content["trainer"]
    assert trainer["max_epochs"] % trainer["check_val_every_n_epoch"] == 0
    assert trainer["precision"] == "32-true"
    assert "90 training rows of 6 columns; layer 'logits' of vectors.Net returns 2" in said
    assert "note: mean: the network gets rows that are standardised" in said


def test_statistics_of_the_network_are_in_the_units_of_the_file(home, tmp_path, monkeypatch):
    """The subject of standardised rows is the network of the file's rows, normalised as the network was."""
    monkeypatch.syspath_prepend(home)
    monkeypatch.setenv("FIBERMODELS_IMPORTS", "vectors")
    monkeypatch.setattr("fibermodels.config.CONFIG_FOLDERS", [tmp_path, home])
    given = ("--network", "vectors.Net", "--data", "cancer.csv", "--label", "diagnosis")
    for mean, std in (([0], [1]), ([1.0, 2, 3, 4, 5, 6], [2.0, 20, 200, 2000, 0.5, 0.25])):
        out = tmp_path / f"{len(mean)}.yaml"
        content, _ = written(home, out, *given, "--mean", str(mean), "--std", str(std))
        subject, data = build(content["subject"]), build(content["data"])
        x = data.split("test").inputs()
        rows = (data.restored(x.double()) - torch.tensor(mean)) / torch.tensor(std)
        torch.testing.assert_close(subject(x), subject.network(rows.float()), rtol=1e-3, atol=1e-3)


def test_points_are_in_their_own_units_and_the_latents_standardise_them(home, tmp_path):
    content, _ = written(home, tmp_path / "a.yaml", "--network", "vectors.Net", "--data", "points.npy")
    assert content["data"]["class_path"] == "fibermodels.data.Arrays"
    own = content["model"]["learner"]["init_args"]["latents"]["init_args"]
    x = torch.from_numpy(np.load(home / "points.npy"))
    assert own["mean"] == pytest.approx(x.mean(0).tolist(), abs=0.3)
    assert own["std"] == pytest.approx(x.std(0).tolist(), abs=0.3)
    content, said = written(home, tmp_path / "b.yaml", "--network", "vectors.Net", "--data", "plain.csv")
    assert "note: columns are in their own units; for a table give --label COLUMN" in said


def test_rows_are_signals_for_a_network_that_begins_with_a_convolution(home, tmp_path):
    content, said = written(home, tmp_path / "a.yaml", "--network", "vectors.Ear", "--data", "waves.csv")
    assert content["subject"]["init_args"]["input_shape"] == [1, 16]
    assert content["data"]["init_args"]["input_shape"] == [1, 16]
    assert "note: rows of 16 numbers are signals of 1 x 16, because the network has a Conv1d" in said


def test_minutes_plan_the_steps(home, tmp_path):
    given = ("--network", "vectors.Net", "--data", "points.npy", "--minutes", 0.01)
    content, _ = written(home, tmp_path / "a.yaml", *given)
    trainer = content["trainer"]
    assert 20 <= trainer["max_epochs"] * trainer["limit_train_batches"] < 1000


def test_a_table_without_classes(home, tmp_path):
    content, _ = written(
        home, tmp_path / "a.yaml", "--network", "vectors.Net", "--data", "plain.csv", "--label", "none"
    )
    assert content["data"]["init_args"]["label"] is None
    data = Table(str(home / "plain.csv"), None)
    assert (data.split("test").labels(), data.classes, len(data.columns)) == (None, [], 6)
    assert sum(len(data.split(split)) for split in ("train", "val", "test")) == 150


TABLE = "--network vectors.Net --label diagnosis --data"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (f"{TABLE} colour.csv", "column 'colour' has the text 'red' in line 2, so it is categorical: a density adds"),
        (f"{TABLE} stage.csv", "column 'stage' has 3 different values, so it counts as categorical: a density adds"),
        ("--network vectors.Net --data stage.csv", "column 'diagnosis' has the text 'malignant' in line 2; a table"),
        (f"{TABLE} still.csv", "column 'mean area' has the value 7 in all rows; leave it out of the file"),
        (f"{TABLE} hole.csv", "column 'mean area': 1 values are missing or not finite, the first in line 6"),
        (f"{TABLE} counted.csv", "column 0 has no name; if it has the numbers of rows that pandas writes"),
        (f"{TABLE} nowhere.csv", "nothing at"),
        (f"{TABLE} cancer.txt", "data: expected a file that ends in .csv, .npy, .npz, .safetensors, got 'cancer.txt'"),
        ("--network vectors.Net --data cancer.csv --label diagnosi", "did you mean 'diagnosis'?"),
        ("--network vectors.Net --data plain.csv --label -1", "so it has no classes; give the column of classes, or"),
        (f"{TABLE} cancer.csv --network_args.columns 7", "Net does not take inputs of [6]"),
        (f"{TABLE} cancer.csv --layer 7", "there is no '7' in Net"),
        (f"{TABLE} cancer.csv --mean [0,1] --std [1]", "mean: expected 6 numbers, one for each column, or one for all"),
        (f"{TABLE} cancer.csv --size 8", "size: expected only with --images"),
        (f"{TABLE} cancer.csv --images pictures", "expected one of --images and --data, got both"),
        ("--network vectors.Net", "expected one of --images and --data, got none"),
        ("--network vectors.Net --images pictures --label x", "label: expected only with --data"),
        ("--network timm:resnet18 --data points.npy", "network: expected the import path of a class with --data"),
    ],
)
def test_what_is_wrong_gets_one_message(home, arguments, words):
    before = {path.name for path in home.iterdir()} | {"__pycache__"}
    done = init(home, *arguments.split())
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("error: ") == 1
    assert {path.name for path in home.iterdir()} <= before
