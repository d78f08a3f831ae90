"""The console command `fibermodels`: its help, and the subcommands that are no scripts."""

import csv
import filecmp
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from scripts import run
from torchvision.io import read_image
from torchvision.utils import save_image

from fibermodels.cli import COMMANDS
from fibermodels.help import PAGES
from fibermodels.suites import ColourDigits

ROOT = Path(__file__).parents[1]
ORACLE = ("--checkpoint", "configs/digits/oracle.yaml", "--device", "cpu")


def test_it_lists_its_commands():
    done = run("fibermodels", "--help")
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.help)}$", done.stdout, re.MULTILINE)
    assert run("fibermodels", "--version").stdout.strip() == importlib.import_module("fibermodels").__version__


def test_every_command_is_where_the_table_says():
    for name, command in COMMANDS.items():
        module, _, function = command.home.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["evaluate", "-h"], ["nonsense"], []], ids=" ".join
)
def test_help_appears_at_once(arguments):
    """Without an import of torch, which takes seconds."""
    code = f"""
import sys
sys.argv = ["fibermodels", *"{arguments}".split()]
from fibermodels.cli import main
try:
    main()
except SystemExit:
    pass
heavy = {{"torch", "lightning", "jsonargparse", "matplotlib", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_without_a_command_it_says_what_there_is():
    done = run("fibermodels")
    assert done.returncode == 2
    assert "usage: fibermodels COMMAND" in done.stderr


@pytest.mark.parametrize(
    ("word", "answer"),
    [("trian", "did you mean 'train'?"), ("smaple", "did you mean 'sample'?"), ("xyz", "expected one of init, ")],
)
def test_an_unknown_command_gets_one_message(word, answer):
    done = run("fibermodels", word, "--config", "x")
    assert done.returncode == 2
    assert f"error: there is no command '{word}'; {answer}" in done.stderr


def options(text):
    """The long options that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-z][\w.]*", text))


@pytest.mark.parametrize("name", PAGES)
def test_the_short_help_is_that_of_the_command(name):
    """It is one page, of the script and of the subcommand, and names no option that does not exist."""
    short, script = run("fibermodels", name, "--help").stdout, run(f"{name}.py", "--help").stdout
    assert short.replace(f"fibermodels {name}", f"python {name}.py") == script
    assert f"usage: fibermodels {name}" in short
    assert max(map(len, short.splitlines())) <= 120
    assert len(short.splitlines()) < 60
    full = run("fibermodels", name, "--help.all").stdout
    assert f"usage: fibermodels {name}" in full
    assert f"usage: python {name}.py" in run(f"{name}.py", "--help.all").stdout
    deeper = {"--model.fiber.weight", "--data.batch_size", "--judges.NAME", "--features.NAME", "--model.ARGUMENT"}
    named = {re.sub(r"\.$", "", option) for option in options(short)} - {"--help.all", "--any.key", *deeper}
    assert len(named) > 10
    of_files = {"--subject", "--data"} if name == "evaluate" else set()
    assert named - of_files <= options(full)
    assert len(full) > 2 * len(short) or name == "evaluate"


def test_what_the_short_help_says_of_values_is_accepted():
    values = dict(re.findall(r"^  (--[\w.]+) (\d[\w.:]*|[\w-]+)  ", PAGES["train"], re.MULTILINE))
    for other in ("--config", "--name", "--subject", "--data", "--start_from", "--adapt_from", "--model.learner"):
        values.pop(other, None)
    values = {key: value for key, value in values.items() if not key.endswith(".help")}
    assert {"--model.fiber.weight", "--data.batch_size", "--trainer.max_time"} <= set(values)
    words = [word for pair in values.items() for word in pair]
    done = run("fibermodels", "train", "--config", "configs/quickstart.yaml", *words, "--print_config")
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)
    assert found["data"]["init_args"]["batch_size"] == int(values["--data.batch_size"])
    assert found["model"]["fiber"]["init_args"]["weight"] == float(values["--model.fiber.weight"])
    assert found["trainer"]["precision"] == values["--trainer.precision"]


@pytest.mark.parametrize(
    ("call", "name"),
    [(("train.py",), "python train.py"), (("fibermodels", "train"), "fibermodels train"),
     (("evaluate.py",), "python evaluate.py"), (("fibermodels", "evaluate"), "fibermodels evaluate"),
     (("fibermodels", "sample"), "fibermodels sample")],
)  # fmt: skip
def test_messages_name_the_command_as_it_was_called(call, name):
    done = run(*call, "--nmae", "x")
    assert done.returncode == 2
    assert f"{name} --help.all lists all options" in done.stderr


@pytest.mark.parametrize(
    ("call", "name"),
    [(("evaluate.py",), "python train.py"), (("fibermodels", "evaluate"), "fibermodels train")],
)
def test_a_hint_at_another_command_is_called_alike(call, name, tmp_path):
    done = run(*call, "--model", "configs/quickstart.yaml", "--out", tmp_path / "out")
    assert f"train with `{name} --config configs/quickstart.yaml`" in done.stderr


def test_an_interruption_is_one_word(monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fibermodels.catalogue.main", interrupted)
    done = run("fibermodels", "list")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_a_reader_may_leave_early():
    command = [sys.executable, "-m", "fibermodels", "list", "configs", "weights"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three test images of the coloured digits, enlarged, in two folders."""
    folder = tmp_path_factory.mktemp("images")
    x = ColourDigits("digits").split("test").images(slice(3))
    larger = torch.nn.functional.interpolate(x, scale_factor=2)
    (folder / "more").mkdir()
    for name, image in zip(("a.png", "b.png", "more/a.png"), larger, strict=True):
        save_image(image, folder / name)
    return folder


def table(folder):
    with (folder / "samples.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_samples_of_any_images(images, tmp_path):
    """Exact samples: each is on the fiber of its image, and looks different from it."""
    given = ("--images", images / "b.png", images, "-n", 3, "--out", tmp_path)
    done = run("fibermodels", "sample", *ORACLE, *given)
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path)
    assert [(Path(row["image"]).relative_to(images).as_posix(), row["sample"]) for row in rows] == [
        (name, str(sample)) for name in ("b.png", "a.png", "more/a.png") for sample in (1, 2, 3)
    ]
    assert [row["file"] for row in rows] == [f"{name}-{k}.png" for name in ("b", "a", "a_2") for k in (1, 2, 3)]
    assert all(float(row["fiber_rms"]) < 0.01 and float(row["cosine"]) > 0.999 for row in rows)
    assert all(float(row["seconds"]) > 0 for row in rows)
    x = ColourDigits("digits").split("test").images(slice(3))
    own = read_image(str(tmp_path / "a-1.png")) / 255
    assert own.shape == (3, 28, 28)
    assert (own - x[0]).abs().mean() > 0.02
    assert {path.name for path in tmp_path.iterdir()} == {*(row["file"] for row in rows), "samples.png", "samples.csv"}
    assert done.stdout.count("more/a.png") == 3
    assert read_image(str(tmp_path / "samples.png")).shape[-1] == 2 * (3 * 29 + 1)


def test_samples_depend_on_seed_and_nothing_else(images, tmp_path):
    """Not on the images that are sampled after them."""
    for name, files, seed in (("one", ["a.png"], 0), ("two", ["a.png", "b.png"], 0), ("other", ["a.png"], 1)):
        given = ("--images", *(images / file for file in files), "-n", 2, "--seed", seed, "--out", tmp_path / name)
        assert run("fibermodels", "sample", *ORACLE, *given).returncode == 0
    for sample in ("a-1.png", "a-2.png"):
        assert filecmp.cmp(tmp_path / "one" / sample, tmp_path / "two" / sample, shallow=False)
        assert not filecmp.cmp(tmp_path / "one" / sample, tmp_path / "other" / sample, shallow=False)


def test_earlier_samples_are_replaced_only_on_request(images, tmp_path):
    given = ("--images", images / "a.png", "--out", tmp_path)
    assert run("fibermodels", "sample", *ORACLE, *given, "-n", 3).returncode == 0
    (tmp_path / "notes-1.png").write_text("mine")
    again = run("fibermodels", "sample", *ORACLE, *given, "-n", 2)
    assert again.returncode == 2
    assert "samples.csv' exists" in again.stderr
    assert run("fibermodels", "sample", *ORACLE, *given, "-n", 2, "--overwrite", "true").returncode == 0
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"a-1.png", "a-2.png", "notes-1.png", "samples.png", "samples.csv"}


def test_a_model_with_a_memory_gets_its_training_set(images, tmp_path):
    """The nearest neighbours are training images, to the last bit of a PNG."""
    model = ("--checkpoint", "configs/digits/nearest_neighbour.yaml", "--device", "cpu")
    done = run("fibermodels", "sample", *model, "--images", images / "a.png", "-n", 2, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    train = ColourDigits("digits").split("train")
    known = torch.cat([batch["x"] for batch in train.batches(500)])
    for name in ("a-1.png", "a-2.png"):
        sample = read_image(str(tmp_path / name)) / 255
        assert (known - sample).abs().flatten(1).amax(1).min() < 0.5 / 255 + 1e-5


def test_images_are_scaled_and_cropped_to_the_centre(tmp_path):
    from fibermodels.evaluation.sampling import read_images

    wide = Image.new("RGB", (120, 40), "blue")
    wide.paste("red", (30, 0, 90, 40))
    wide.save(tmp_path / "wide.png")
    data = ColourDigits("digits")
    subject = type("Shaped", (), {"image_shape": (3, 28, 28)})()
    (image,) = read_images([tmp_path / "wide.png"], subject, data)
    assert torch.equal(image, torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 28, 28))


def test_names_of_pictures_do_not_collide():
    from fibermodels.evaluation.sampling import unique_stems

    files = [Path(name) for name in ("a/cat.png", "b/cat.jpg", "cat_2.png", "c/cat.png", "dog.png")]
    assert unique_stems(files) == ["cat", "cat_3", "cat_2", "cat_4", "dog"]


def test_compare_is_that_of_evaluate(tmp_path):
    results = ("results/blobs/oracle", "results/blobs/general")
    one = run("fibermodels", "compare", *results, "--out", tmp_path / "one")
    two = run("evaluate.py", "--compare", *results, "--out", tmp_path / "two")
    assert one.returncode == two.returncode == 0, one.stderr
    assert one.stdout.replace("one", "two") == two.stdout
    names = {"comparison.csv", "comparison.md", "comparison.png", "report.html"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    for name in names:
        assert filecmp.cmp(tmp_path / "one" / name, tmp_path / "two" / name, shallow=False)
    again = run("fibermodels", "compare", *results, "--out", tmp_path / "one")
    assert again.returncode == 2
    assert "comparison.csv' exists" in again.stderr


def test_a_comparison_of_all_that_is_in_a_folder_can_be_repeated(tmp_path):
    """`compare DIR/* --out DIR`: its own files are left out, and nothing else is."""
    for name in ("oracle", "general"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / "results" / "blobs" / name / "metrics.json", tmp_path / name)
    tables = []
    for _ in range(2):
        done = run("fibermodels", "compare", *sorted(tmp_path.glob("*")), "--out", tmp_path, "--overwrite", "true")
        assert done.returncode == 0, done.stderr
        tables.append((tmp_path / "comparison.csv").read_text())
    assert tables[0] == tables[1]
    (tmp_path / "notes.txt").write_text("mine")
    written = ("comparison.csv", "report.html")
    for paths, words in (
        (["oracle", "genral"], "no result in"),
        (["oracle", "notes.txt"], "which is a file: expected a folder"),
        (["oracle", "oracle/metrics.json"], "which is a file: expected a folder"),
        (written, "got only the files of a comparison"),
    ):
        for command in (("compare",), ("evaluate", "--compare")):
            done = run("fibermodels", *command, *(tmp_path / path for path in paths), "--out", tmp_path / "new")
            assert done.returncode == 2
            assert words in done.stderr
    assert not (tmp_path / "new").exists()


def listed(kind):
    """The lines of one list, by name."""
    done = run("fibermodels", "list", kind)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.strip().splitlines()
    assert head == f"{kind}:"
    return dict(line.split(maxsplit=1) for line in lines)


def test_the_lists_are_complete():
    """What the tests build of every kind is in its list, and every line says something."""
    from cases import MODELS

    models, guidances = listed("models"), listed("guidances")
    assert "fibermodels.guidance.NDTM" in guidances
    for cls in MODELS:
        kind = models if cls.__module__.startswith("fibermodels.models.") else guidances
        assert f"{cls.__module__.rpartition('.')[0]}.{cls.__name__}" in kind
    configs, weights = listed("configs"), listed("weights")
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("configs/**/*.yaml")}
    assert set(configs) == {file for file in files if not file.startswith("configs/parts/")}
    assert set(weights) == {str(path.relative_to(ROOT)) for path in ROOT.glob("data/weights/**/*.safetensors")}
    assert "accuracy 0.7794" in weights["data/weights/cifar10/judges/depthwise.safetensors"]
    assert configs["configs/digits/oracle.yaml"] == "Exact samples: fiber_rms is 0, and colour_kl is at its floor"
    for found in (models, guidances, configs, weights, *map(listed, ("subjects", "latents", "networks", "data"))):
        assert all(len(text) > 8 for text in found.values())


def test_the_first_sentence_of_a_text():
    from fibermodels.catalogue import sentence

    assert sentence("A map,\nin 2.5 steps: one line. Another sentence.\n\nMore.") == "A map, in 2.5 steps: one line"
    assert sentence("No full stop") == "No full stop"
