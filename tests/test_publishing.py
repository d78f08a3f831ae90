"""Exported weights load wherever a checkpoint does, and travel through a folder and a hub."""

import hashlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from cases import flow_matching, subject, vae
from safetensors.torch import load_file, save_file
from scripts import run
from test_adapt import fitted
from test_condition import fit, plane
from toy import Bend, PlaneFlow

from fibermodels.component import exported_at, fingerprint
from fibermodels.config import describe
from fibermodels.evaluation.building import build, run_name
from fibermodels.latents import VAE
from fibermodels.noise import seeded
from fibermodels.suites import DecolorisedEncoder
from fibermodels.training import Training, export, from_pretrained, load, push_to_hub, save_pretrained
from fibermodels.training.checkpoint import adapt_from, start_from
from fibermodels.training.hub import hub_id
from fibermodels.training.page import escaped

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "data" / "weights"
FEW = ("--num_targets", 6, "--samples_per_target", 2, "--device", "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A flow over a VAE, whose frozen parts have weights that no seed of a new process repeats."""
    folder = tmp_path_factory.mktemp("runs") / "digits" / "checkpoints"
    return fitted(Training(flow_matching(), subject(7), preview=2), folder)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The same, exported, in a folder of its own."""
    folder = tmp_path_factory.mktemp("exported")
    export(trained, folder / "mine")
    return folder


@pytest.fixture(scope="module")
def result(trained, tmp_path_factory):
    """A result of the checkpoint."""
    folder = tmp_path_factory.mktemp("results") / "mine"
    done = run("evaluate.py", "--checkpoint", trained, *FEW, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the exported files that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def changed_card(folder, change, name="mine.json"):
    card = json.loads((folder / name).read_text())
    change(card)
    (folder / name).write_text(json.dumps(card))


def same(first, second):
    """Whether two runs sample the same images for the same inputs."""
    x = first.data.split("test").images(slice(3))
    h = first.subject(x)
    torch.testing.assert_close(second.subject(x), h, rtol=0, atol=0)
    ours, theirs = (each.model.sample(h, 2, seeded(0)) for each in (first, second))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0)
    return True


class TestLoad:
    @pytest.mark.parametrize("form", ["mine.safetensors", "mine.json", ""])
    def test_a_file_its_card_and_their_folder(self, form, trained, exported):
        first, second = load(trained), load(exported / form)
        assert same(first, second)
        assert (second.steps, second.device, second.data.name) == (first.steps, first.device, first.data.name)
        assert second.training.seconds == pytest.approx(first.training.seconds, abs=0.1)
        assert second.description == first.description
        assert not any(p.requires_grad for p in second.training.parameters())
        assert not second.model.training

    def test_arguments_can_be_changed(self, exported):
        assert load(exported, {"sampler.steps": 3}).model.sampler.steps == 3

    def test_below_the_data_root(self, exported, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("FIBERMODELS_DATA", str(exported.parent))
        assert load(Path(exported.name) / "mine.json").steps == 2

    def test_exported_in_half_precision(self, trained, tmp_path):
        export(trained, tmp_path / "half", half=True)
        run = load(tmp_path / "half.json")
        for name, value in load(trained).model.network.state_dict().items():
            torch.testing.assert_close(run.model.network.state_dict()[name], value, rtol=1e-3, atol=1e-6)
        assert fingerprint(run.subject) == fingerprint(load(trained).subject)

    def test_exported_again(self, exported, tmp_path):
        export(exported, tmp_path / "again")
        assert same(load(exported), load(tmp_path / "again.safetensors"))

    def test_a_folder_with_several_files(self, folder):
        save_file({"a": torch.zeros(1)}, folder / "other.safetensors")
        with pytest.raises(ValueError, match=r"expected one file of weights in this folder, got mine\.s.*other\.s"):
            load(folder)
        save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
        assert exported_at(folder).name == "model.safetensors"

    def test_a_run_folder_names_its_checkpoints(self, trained):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at '.*digits'.*there is .*last\.ckpt"):
            load(trained.parents[1])


class TestFrozenParts:
    def test_those_of_files_are_found_again(self, tmp_path):
        """Without a file of frozen parts, the card names the files that the training used."""
        for part, name in ((subject(7), "subject"), (vae(), "vae")):
            save_file(part.state_dict(), tmp_path / f"{name}.safetensors")
        phi = DecolorisedEncoder(str(tmp_path / "subject.safetensors"), dim=6, width=16, blocks=1)
        latents = VAE(**vae().arguments | {"weights": str(tmp_path / "vae.safetensors")})
        model = flow_matching()
        model = type(model)(**model.arguments | {"latents": latents})
        checkpoint = fitted(Training(model, phi, preview=2), tmp_path / "run")
        export(checkpoint, tmp_path / "mine", frozen=False)
        assert not (tmp_path / "mine.frozen.safetensors").exists()
        assert same(load(checkpoint), load(tmp_path / "mine.json"))
        save_file(subject(8).state_dict(), tmp_path / "subject.safetensors")
        with pytest.raises(ValueError, match="does not hold the weights of its subject: give its subject by"):
            load(tmp_path / "mine.json")
        assert load(tmp_path / "mine.json", subject=subject(7)).steps == 2

    def test_a_lost_file_is_one_message(self, folder):
        (folder / "mine.frozen.safetensors").unlink()
        with pytest.raises(ValueError, match=r"latent space and of its subject: name .*latents\.weights.*--subject"):
            load(folder)
        save_file(vae().state_dict(), folder.parent / "vae.safetensors")
        changed = {"latents.weights": str(folder.parent / "vae.safetensors")}
        assert load(folder, changed, subject(7)).model.latents.arguments["weights"] == changed["latents.weights"]

    def test_an_export_without_them_removes_those_of_an_earlier_one(self, trained, folder):
        export(trained, folder / "mine", overwrite=True, frozen=False)
        assert sorted(path.name for path in folder.iterdir()) == ["mine.json", "mine.safetensors"]

    def test_the_weights_do_not_hold_them(self, exported):
        names = load_file(exported / "mine.safetensors")
        assert names
        assert not [name for name in names if name.startswith(("latents", "subject"))]


class TestDamage:
    @pytest.mark.parametrize("name", ["mine.safetensors", "mine.frozen.safetensors"])
    def test_other_weights(self, name, folder):
        state = load_file(folder / name)
        save_file({key: value + 1 for key, value in state.items()}, folder / name)
        with pytest.raises(ValueError, match=rf"{name}' is not the file that .* card 'mine\.json' describes"):
            load(folder)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"component": 1, "training": 2}', '{"component": {}}'])
    def test_no_card(self, text, folder):
        (folder / "mine.json").write_text(text)
        with pytest.raises(ValueError, match=r"mine\.json' is not a card of export\.py"):
            load(folder)

    def test_a_missing_card(self, folder):
        (folder / "mine.json").unlink()
        with pytest.raises(FileNotFoundError, match="has no card: expected"):
            load(folder)

    @pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "fibermodels.files.replace_file"])
    @pytest.mark.parametrize("part", ["subject", "learner"])
    def test_a_card_cannot_name_any_class(self, path, part, folder):
        def change(card):
            card["training"]["init_args"][part]["class_path"] = path
            if part == "learner":
                card["component"]["class_path"] = path

        changed_card(folder, change)
        with pytest.raises(ValueError, match="is outside the allowed import paths|that is not a class of fibermodels"):
            load(folder)


class TestSubject:
    """A card, or a checkpoint, that does not describe the subject."""

    @pytest.fixture
    def bare(self, folder):
        changed_card(folder, lambda card: card["training"]["init_args"].update(subject=None))
        return folder

    def test_it_is_asked_for(self, bare):
        with pytest.raises(ValueError, match="does not describe its subject: give its subject by subject=phi"):
            load(bare)

    def test_it_is_taken(self, bare, trained):
        phi = subject(7)
        run = load(bare, subject=phi)
        assert run.subject is phi
        assert same(load(trained), run)

    def test_another_one_is_refused(self, bare):
        with pytest.raises(ValueError, match=f"with fingerprint {fingerprint(subject(7))}, got one with"):
            load(bare, subject=subject(8))
        with pytest.raises(ValueError, match=r"representations of shape \[6\].* got \[9\]"):
            load(bare, subject=DecolorisedEncoder(dim=9, width=16, blocks=1))
        with pytest.raises(ValueError, match="expected a Subject, got a Linear"):
            load(bare, subject=torch.nn.Linear(1, 1))

    def test_of_a_checkpoint(self, trained, tmp_path):
        assert load(trained, subject=subject(7)).steps == 2
        with pytest.raises(ValueError, match="got one with"):
            load(trained, subject=subject(8))
        content = torch.load(trained, weights_only=True)
        content["fibermodels"]["training"]["init_args"]["subject"] = None
        torch.save(content, tmp_path / "bare.ckpt")
        with pytest.raises(ValueError, match="does not describe its subject"):
            load(tmp_path / "bare.ckpt")
        assert same(load(trained), load(tmp_path / "bare.ckpt", subject=subject(7)))

    def test_what_is_exported_without_it_asks_for_it(self, bare, tmp_path):
        again = load(bare, subject=subject(7))
        card = save_pretrained(again, tmp_path / "again")
        assert card["training"]["init_args"]["subject"] is None
        assert not [n for n in load_file(tmp_path / "again" / "model.frozen.safetensors") if n.startswith("subject")]
        page = (tmp_path / "again" / "README.md").read_text()
        assert "subject=phi" in page
        assert "--subject FILE.yaml" in page
        with pytest.raises(ValueError, match="does not describe its subject"):
            load(tmp_path / "again")
        assert same(again, load(tmp_path / "again", subject=subject(7)))

    def test_another_layer_is_refused(self, tmp_path):
        """Without weights, or with the same, the arguments tell."""
        checkpoint = fit(tmp_path, plane(), 1)
        with pytest.raises(ValueError, match=r"got another one: subject\.scale: 1\.0 -> 2\.0"):
            load(checkpoint, subject=Bend(2.0))

    def test_evaluate_takes_it_from_a_file(self, bare, tmp_path, trained):
        save_file(subject(7).state_dict(), tmp_path / "phi.safetensors")
        arguments = {"weights": str(tmp_path / "phi.safetensors"), "dim": 6, "width": 16, "blocks": 1}
        described = {"class_path": "fibermodels.suites.DecolorisedEncoder", "init_args": arguments}
        (tmp_path / "phi.yaml").write_text(yaml.safe_dump(described))
        done = run("evaluate.py", "--checkpoint", bare, *FEW, "--out", tmp_path / "out")
        assert (done.returncode, done.stderr.count("error: ")) == (2, 1)
        assert "--subject FILE.yaml in evaluate.py" in done.stderr
        more = ["--subject", str(tmp_path / "phi.yaml"), "--model.sampler.steps", "3"]
        model, phi, data, about = build(str(bare), None, more)
        assert (fingerprint(phi), model.sampler.steps) == (fingerprint(subject(7)), 3)
        assert (data.name, about["name"], about["model_sampler.steps"]) == (load(trained).data.name, "copy", 3)
        for words in (["--subject", "nowhere.yaml"], ["--subject=nowhere.yaml"]):
            with pytest.raises(FileNotFoundError, match=r"--subject: no file at 'nowhere\.yaml'"):
                build(str(bare), None, words)
        for words in (["--subject"], ["--subject="]):
            with pytest.raises(ValueError, match="--subject: expected FILE.yaml"):
                build(str(bare), None, words)


class TestElsewhere:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("runs/a/checkpoints/best.ckpt", "a"),
            ("out/a-v1.5.safetensors", "a-v1.5"),
            ("out/a-v1.5.json", "a-v1.5"),
            ("hub/a/model.safetensors", "a"),
            ("hub/a/config.json", "a"),
            ("hub/a-v1.5/", "a-v1.5"),
            ("user/a", "a"),
        ],
    )
    def test_the_name_of_a_result(self, path, name):
        assert run_name(Path(path)) == name

    def test_start_from(self, trained, exported):
        starts = [Training(flow_matching(), subject(7), preview=2) for _ in range(2)]
        start_from(starts[0], trained)
        start_from(starts[1], exported)
        first, second = (each.learner.state_dict() for each in starts)
        assert all(torch.equal(value, second[name]) for name, value in first.items())
        assert starts[1].earlier_steps == 2
        with pytest.raises(ValueError, match="was trained with another subject"):
            start_from(Training(flow_matching(), subject(8), preview=2), exported)

    def test_start_from_weights_that_do_not_name_their_subject(self, folder):
        changed_card(folder, lambda card: [card.pop(name) for name in ("frozen", "frozen_sha256")])
        with pytest.raises(ValueError, match="do not say with which subject they were trained"):
            start_from(Training(flow_matching(), subject(7), preview=2), folder)

    @pytest.mark.parametrize("form", ["mine.safetensors", "mine.json", ""])
    def test_adapt_from(self, form, exported):
        training = Training(flow_matching(), subject(8), preview=2)
        adapt_from(training, exported / form)
        theirs = load_file(exported / "mine.safetensors")
        fitting = [name for name in theirs if "standardise" not in name]
        assert fitting
        assert all(torch.equal(training.learner.state_dict()[name], theirs[name]) for name in fitting)

    @pytest.mark.parametrize("form", ["mine.safetensors", "mine.json", ""])
    def test_weights_in_a_config(self, form, exported, trained):
        model = flow_matching()
        built = type(model)(**model.arguments | {"weights": str(exported / form)})
        theirs = load(trained).model.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in built.state_dict().items())


class TestPublishedBefore:
    """Cards of earlier versions name no weights of frozen parts."""

    def test_one_whose_subject_is_computed(self):
        assert type(load(WEIGHTS / "blobs" / "vae.json").model) is VAE

    def test_one_that_is_given_the_rest(self):
        folder = WEIGHTS / "colour_mnist"
        phi = DecolorisedEncoder(str(folder / "subject.safetensors"))
        with pytest.raises(ValueError, match="does not hold the weights of its latent space and of its subject"):
            load(folder / "flow_matching-vae.json")
        with pytest.raises(ValueError, match="does not hold the weights of its latent space: name the file"):
            load(folder / "flow_matching-vae.json", subject=phi)
        run = load(folder / "flow_matching-vae.json", {"latents.weights": str(folder / "vae.safetensors")}, phi)
        x = run.data.split("test").images(slice(20))
        h = run.subject(x)
        error = (run.subject(run.model.sample(h, 1, seeded(0))[0]) - h).square().mean(1).sqrt().mean()
        assert float(error) == pytest.approx(0.386, abs=0.1)  # of `flow_matching-vae` in README.md

    def test_a_part_is_named_as_one(self):
        with pytest.raises(ValueError, match=r"holds no fiber model, but a part: .*fibermodels\.suites\.Decolorised"):
            load(WEIGHTS / "colour_mnist" / "subject.safetensors")


class TestHub:
    @pytest.fixture
    def hub(self, trained, tmp_path, monkeypatch):
        """A hub of one model, which is a folder; the calls of it."""
        save_pretrained(load(trained), tmp_path / "snapshot")
        calls = []

        def fetch(repository, **options):
            calls.append((repository, options))
            return str(tmp_path / "snapshot")

        monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
        monkeypatch.chdir(tmp_path)
        return calls

    def test_an_id_is_loaded(self, hub, trained):
        assert same(load(trained), load("user/name"))
        ((repository, options),) = hub
        assert repository == "user/name"
        assert not {"*", "*.py", "*.bin", "*.ckpt", "*.pt", "*.pkl"} & set(options["allow_patterns"])

    def test_options_are_passed_on(self, hub, trained):
        run = from_pretrained("user/name", revision="v1", token="t", local_files_only=True)
        assert same(load(trained), run)
        assert hub[0][1].items() >= {"revision": "v1", "token": "t", "local_files_only": True}.items()

    def test_a_local_path_comes_first(self, hub, exported, tmp_path):
        shutil.copytree(exported, tmp_path / "user" / "name")
        assert load("user/name").steps == 2
        assert from_pretrained("user/name").steps == 2
        with pytest.raises(ValueError, match="revision: expected none for the local path 'user/name', got 'v1'"):
            from_pretrained("user/name", revision="v1")
        assert not hub

    def test_evaluate_takes_an_id(self, hub, trained):
        model, phi, _, about = build("user/name", None, [])
        assert about["name"] == "name"
        assert fingerprint(model) == fingerprint(load(trained).model)
        assert fingerprint(phi) == fingerprint(subject(7))

    def test_a_model_of_another_library(self, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
        with pytest.raises(FileNotFoundError, match="'user/name' on the hub holds no exported weights of fibermodels"):
            load("user/name")

    def test_offline_is_one_message(self, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(FileNotFoundError, match="'user/name', and none on the hub: the hub cannot be reached"):
            from_pretrained("user/name", cache_dir=tmp_path / "cache", local_files_only=True)
        with pytest.raises(FileNotFoundError, match="none on the hub: Repo id must"):
            from_pretrained("no/such/path")

    @pytest.mark.parametrize(
        "text",
        ["runs/last.ckpt", "a/b.safetensors", "a/b.json", "/user/name", "./name", "../name", "name", "a/b/c", ""],
    )
    def test_paths_are_no_ids(self, text):
        assert hub_id(text) is None

    def test_a_missing_file_does_not_ask_the_hub(self, hub):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            load("runs/last.ckpt")
        assert not hub

    def test_push(self, trained, result, monkeypatch):
        sent = {}

        def create_repo(self, repository, **options):
            sent["made"] = repository, options
            return f"https://huggingface.co/{repository}"

        def upload_folder(self, *, repo_id, folder_path, **options):
            sent["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            sent["page"] = (Path(folder_path) / "README.md").read_text()
            sent["run"] = load(folder_path)

        monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
        monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
        address = push_to_hub(load(trained), "user/name", private=True, result=result, license="mit")
        assert address == "https://huggingface.co/user/name"
        assert sent["made"] == ("user/name", {"private": True, "exist_ok": True})
        assert sent["files"] == [
            "README.md",
            "config.json",
            "model.frozen.safetensors",
            "model.safetensors",
            "samples.png",
        ]
        assert 'fibermodels.load("user/name")' in sent["page"]
        assert "--checkpoint user/name" in sent["page"]
        assert same(load(trained), sent["run"])

    def test_a_push_without_the_network(self, trained, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(OSError, match="'user/name' cannot be uploaded"):
            push_to_hub(load(trained), "user/name")


class TestPage:
    @pytest.fixture(scope="class")
    def saved(self, trained, result, tmp_path_factory):
        """A folder that `export.py` wrote."""
        folder = tmp_path_factory.mktemp("page") / "my model"
        options = ("--folder", "true", "--result", result, "--license", "cc-by-4.0")
        done = run("export.py", "--checkpoint", trained, "--out", folder, *options)
        assert done.returncode == 0, done.stderr
        return folder

    def test_its_front_matter(self, saved):
        _, front, _ = (saved / "README.md").read_text().split("---\n", 2)
        assert yaml.safe_load(front) == {
            "library_name": "fibermodels",
            "license": "cc-by-4.0",
            "tags": ["fibermodels", "FlowMatching"],
            "datasets": [load(saved).data.name],
        }

    def test_its_numbers_are_those_of_the_result(self, saved, result):
        text = (saved / "README.md").read_text().replace("\\", "")
        metrics = json.loads((result / "metrics.json").read_text())
        rows = dict(re.findall(r"^\| (\w+) \| ([^|]+) \|", text, re.MULTILINE))
        assert float(rows["fiber_rms"]) == pytest.approx(metrics["fiber_rms"], rel=1e-3)
        assert len(rows) > 10
        for name, value in rows.items():
            if name in metrics:
                assert float(value) == pytest.approx(metrics[name], rel=1e-3)
        assert "6 targets of the test split, 2 samples of each, seed 0" in text

    def test_its_figure_and_files(self, saved, result):
        text = (saved / "README.md").read_text()
        assert "](samples.png)" in text
        assert (saved / "samples.png").read_bytes() == (result / "samples.png").read_bytes()
        for name in ("model.safetensors", "model.frozen.safetensors"):
            assert f"| `{name}` |" in text
            assert hashlib.sha256((saved / name).read_bytes()).hexdigest() in text

    def test_its_python_runs(self, saved, tmp_path, monkeypatch):
        code = re.search(r"```python\n(.*?)```", (saved / "README.md").read_text(), re.DOTALL)[1]
        monkeypatch.chdir(tmp_path)
        names: dict = {}
        exec(compile(code, "README.md", "exec"), names)
        assert names["samples"].shape == (4, 8, 3, 28, 28)

    def test_its_command_runs(self, saved, result, tmp_path):
        """It gives the result of the checkpoint."""
        line = re.search(r"^python (evaluate\.py .*)$", (saved / "README.md").read_text(), re.MULTILINE)[1]
        words = shlex.split(line)
        assert words[-2:] == ["--out", "results/my-model"]
        done = run(*words, *FEW, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folders = (result, tmp_path / "results" / "my-model")
        ours, theirs = (json.loads((each / "metrics.json").read_text()) for each in folders)
        for name in ("seconds_per_sample", "training_seconds"):
            ours.pop(name), theirs.pop(name)
        assert (ours.pop("name"), theirs.pop("name")) == ("digits", "my model")
        assert theirs == ours

    def test_nothing_is_replaced_unasked(self, saved, trained):
        before = {path: path.read_bytes() for path in saved.iterdir()}
        done = run("export.py", "--checkpoint", trained, "--out", saved, "--folder", "true")
        assert done.returncode == 2
        assert "exists; say --overwrite true" in done.stderr
        assert {path: path.read_bytes() for path in saved.iterdir()} == before

    def test_without_a_result(self, trained, tmp_path):
        card = save_pretrained(load(trained), tmp_path / "plain")
        text = (tmp_path / "plain" / "README.md").read_text()
        assert "license" not in text
        assert "samples.png" not in text
        assert "result" not in card

    def test_of_a_part(self, tmp_path):
        """A latent space is used by its name in YAML."""
        checkpoint = fitted(Training(vae(), subject(7), preview=0), tmp_path / "run")
        save_pretrained(load(checkpoint), tmp_path / "space")
        text = (tmp_path / "space" / "README.md").read_text()
        described = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
        described["init_args"]["weights"] = str(tmp_path / "space")
        assert described["class_path"] == "fibermodels.latents.VAE"
        built = VAE(**described["init_args"])
        assert torch.equal(built.draw.weight, load(tmp_path / "space").model.draw.weight)
        assert "reconstruction" in text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("<script>alert(1)</script>", r"&lt;script&gt;alert\(1\)&lt;/script&gt;"),
            ("a | b\n# title", r"a \| b \# title"),
            ("![x](javascript:y)", r"\!\[x\]\(javascript:y\)"),
            ("`code` *bold* &amp;", r"\`code\` \*bold\* &amp;amp;"),
        ],
    )
    def test_text_is_escaped(self, text, shown):
        assert escaped(text) == shown

    def test_a_data_set_with_a_strange_name(self, folder, tmp_path):
        again = load(folder)
        again.data.name = "x\n---\n<img src=x onerror=y> | `z`"
        save_pretrained(again, tmp_path / "out")
        text = (tmp_path / "out" / "README.md").read_text()
        assert "<img" not in text
        assert text.count("\n---\n") == 1
        assert "datasets" not in yaml.safe_load(text.split("---\n", 2)[1])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--folder true --license", "license: expected an identifier such as mit"),
            ("--license mit", "license: expected only with --folder true"),
            ("--repository a/b", "repository: expected only with --folder true"),
            ("--folder true --frozen false", "frozen: expected true with --folder true"),
            ("--result /nowhere", "no result in '/nowhere'"),
        ],
    )
    def test_wrong_options(self, options, message, trained, tmp_path):
        words = [*options.split(), *(["No License!"] if options.endswith("--license") else [])]
        done = run("export.py", "--checkpoint", trained, "--out", tmp_path / "x", *words)
        assert (done.returncode, done.stderr.count("error: ")) == (2, 1)
        assert message in done.stderr
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"training_steps": 5}, "a result of another model: expected training_steps 2, got 5"),
            ({"subject": "0"}, "a result of another model: expected subject"),
            ({"fiber_rms": float("nan")}, "expected text and finite numbers"),
            ({"fiber_rms": [1]}, "expected text and finite numbers"),
        ],
    )
    def test_a_result_of_another_model(self, change, message, trained, result, tmp_path):
        metrics = json.loads((result / "metrics.json").read_text()) | change
        (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        with pytest.raises(ValueError, match=message):
            export(trained, tmp_path / "m", result=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_live_model_needs_no_weights_of_its_subject(tmp_path):
    """A subject without weights leaves no file of frozen parts."""
    checkpoint = fit(tmp_path, plane(), 1)
    export(checkpoint, tmp_path / "mine")
    assert not (tmp_path / "mine.frozen.safetensors").exists()
    run = load(tmp_path / "mine.json")
    assert type(run.model) is PlaneFlow
    assert describe(run.subject) == describe(Bend())
