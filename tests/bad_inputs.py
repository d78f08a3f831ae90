"""Bad inputs of the commands, one line each: the arguments, and words that the one message must hold.

`test_bad_inputs.py` runs them. `{...}` stands for a file or folder of `write`.
"""

import pickle
from pathlib import Path

import torch

BOMB = "".join(
    f"{name}: &{name} [{', '.join([f'*{former}' if former else 'x'] * 9)}]\n"
    for former, name in zip(["", *"abcdefgh"], "abcdefghi", strict=True)
)
"""Nine aliases of nine aliases and so on: four hundred million values in half a kilobyte."""


def write(folder: Path) -> dict[str, str]:
    """Makes the files that the lines name, and returns their paths by name."""
    texts = {
        "empty.ckpt": "",
        "text.ckpt": "hello",
        "empty.yaml": "",
        "list.yaml": "[1, 2]",
        "broken.yaml": "a: [1,",
        "bomb.yaml": BOMB,
        "escape.yaml": "name: ../escaped\n",
        "file": "x",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "pickled.ckpt").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": 1}, folder / "foreign.ckpt")
    torch.save({"a": Path("x")}, folder / "objects.ckpt")
    return {path.name.replace(".", "_"): str(path) for path in folder.iterdir()} | {"folder": str(folder)}


TRAIN = [
    ("--model.learning_rate -1", "learning_rate: expected a number above 0, got -1"),
    ("--model.learning_rate nan", "learning_rate"),
    ("--model.learning_rate abc", "learning_rate"),
    ("--model.weight_decay -1", "weight_decay: expected a number of at least 0, got -1"),
    ("--model.beta2 1", "beta2: expected a number above 0 and below 1, got 1"),
    ("--model.warmup 1.5", "warmup: expected a number above 0 and below 1, got 1.5"),
    ("--model.preview -3", "preview: expected a number of at least 0, got -3"),
    ("--model.lrr 1", "--model.lrr"),
    ("--widht 3", "did you mean 'width' instead of 'widht'?"),
    ("--checkpiont_minutes 3", "did you mean 'checkpoint_minutes'"),
    ("--model.learner FlowMaching", "did you mean 'FlowMatching'"),
    ("--model.learner fibermodels.models.FlowMaching", "did you mean 'FlowMatching'"),
    ("--model.learner.network fibermodels.nn.MPL", "fibermodels.nn.MPL"),
    ("--model.learner.network.widht 3", "did you mean 'width' instead of 'widht'?"),
    ("--model.learner.network.width -8", "width: expected a number of at least 1, got -8"),
    ("--model.learner.network.width 2.5", "Got value: 2.5"),
    ("--model.learner.sampler.steps 2.5", "Got value: 2.5"),
    ("--model.learner.sampler.steps -1", "steps must be at least 1, got -1"),
    ("--data.base mnits", "did you mean 'mnist' instead of 'mnits'?"),
    ("--data.base mnist --data.root /nowhere", "/nowhere"),
    ("--data.batch_size 0", "batch_size: expected at least 1, got 0"),
    ("--data.batch_size 2.5", "Got value: 2.5"),
    ("--ckpt_path {empty_ckpt}", "empty.ckpt' is damaged or not a checkpoint"),
    ("--ckpt_path {text_ckpt}", "text.ckpt' is damaged or not a checkpoint"),
    ("--ckpt_path {pickled_ckpt}", "pickled.ckpt' is damaged or not a checkpoint"),
    ("--ckpt_path {objects_ckpt}", "could run a stranger's code"),
    ("--ckpt_path {foreign_ckpt}", "foreign.ckpt' is not a checkpoint of fibermodels"),
    ("--ckpt_path /nowhere.ckpt", "nothing to resume at '/nowhere.ckpt'"),
    ("--ckpt_path {folder}", "nothing to resume at"),
    ("--ckpt_path last", "nothing to resume at"),
    ("--start_from {text_ckpt}", "text.ckpt' is damaged or not a checkpoint"),
    ("--start_from /nowhere.ckpt", "no checkpoint at '/nowhere.ckpt'"),
    ("--adapt_from {text_ckpt}", "text.ckpt' is damaged or not a checkpoint"),
    ("--adapt_from /nowhere.safetensors", "no weights at '/nowhere.safetensors'"),
    ("--start_from a --adapt_from b", "give one of --start_from"),
    ("--config {empty_yaml}", "empty.yaml': expected keys with values, got nothing"),
    ("--config {list_yaml}", "list.yaml': expected keys with values"),
    ("--config {broken_yaml}", "broken.yaml' is no YAML file"),
    ("--config {bomb_yaml}", "bomb.yaml': expected at most 100000 values"),
    ("--config {escape_yaml}", "got '../escaped'"),
    ("--config /nowhere.yaml", "File does not exist: '/nowhere.yaml'"),
    ("--name ../escaped", "got '../escaped'"),
    ("--name /escaped", "got '/escaped'"),
    ("--name=", "got ''"),
    ("--runs {file}", "file/quickstart': Not a directory"),
    ("--runs {file}/sub", "file/sub/quickstart': Not a directory"),
    ("--ema_decay 1.5", "decay: expected a number above 0 and below 1, got 1.5"),
    ("--ema_decay -1", "decay: expected a number above 0 and below 1, got -1"),
    ("--cache_draws -1", "cache_draws: expected a number of at least 0, got -1"),
    ("--global_batch -5", "global_batch: expected a number of at least 0, got -5"),
    ("--checkpoint_minutes -1", "expected 0 or more, got -1"),
    ("--checkpoint_steps -1", "expected 0 or more, got 30.0 and -1"),
    ("--trainer.max_epochs abc", "max_epochs"),
    ("--trainer.devices 9999", "trainer.devices: expected at most"),
    ("--trainer.accelerator foo", "accelerator='foo'"),
    ("--trainer.precision foo", "precision"),
    ("--trainer.strategy foo", "strategy='foo'"),
    ("--trainer.gradient_clip_val -1", "gradient_clip_val: expected a number of at least 0, got -1"),
    ("--trainer.limit_train_batches -1", "limit_train_batches"),
    ("--subject nowhere.yaml", "'nowhere.yaml' is not allowed: it is no file here"),
    ("--subject.weights nowhere", "no weights at 'nowhere'"),
    ("--subject fibermodels.subjects.Nope", "no attribute 'Nope'"),
    ("--model.fiber.weight -1", "weight: expected a number of at least 0, got -1"),
    ("--model.fiber.distance foo", "Got value: foo"),
    ("--model.fiber.rows 0", "rows: expected a number of at least 1, got 0"),
    ("--model.fiber.estimate_below 2", "estimate_below: expected a number above 0 and of at most 1, got 2"),
    ("--model.learner.network.width 99 --model.learner.weights nowhere", "nowhere"),
    ("--seed_everything abc", "abc"),
    ("--seed_everything -1", "-1"),
    ("stray", "unrecognized arguments: stray"),
    ("--name", "--name: expected one argument"),
    ("--dry_run maybe", "maybe"),
    ("--dry_run true --gpu_tflops 0", "gpu_tflops: expected a number above 0, got 0"),
    ("--dry_run true --utilisation 2", "utilisation: expected a number above 0 and of at most 1, got 2"),
]
"""Of `train.py`, behind the quickstart's config."""

EVALUATE = [
    ("--num_targets 0", "num_targets: expected at least 1, got 0"),
    ("--num_targets 1000000000", "num_targets: expected at most"),
    ("--num_targets 2.5", "num_targets"),
    ("--samples_per_target 0", "samples_per_target: expected at least 1, got 0"),
    ("--samples_per_target 1000000000", "more than the memory"),
    ("--seed abc", "seed"),
    ("--device foo", "device: 'foo' cannot be used here"),
    ("--split train", "Got value: train"),
    ("--batch_size 0", "batch_size: expected at least 1, got 0"),
    ("--processes 0", "processes: expected at least 1, got 0"),
    ("--processes 99", "at most the number of batches"),
    ("--out /dev/null/x", "'/dev/null' is a file"),
    ("--out {file}", "file' is a file"),
    ("--out {file}/sub", "file' is a file"),
    ("--out=", "out: expected text, got ''"),
    ("--classifier /nowhere", "--classifier: no file at '/nowhere'"),
    ("--classifier configs/parts/colour_mnist/vae.yaml", "does not correspond to a subclass of Subject"),
    ("--judges.a x", "--judges.a: no file at 'x'"),
    ("--features.a x", "--features.a: no file at 'x'"),
    ("--thresholds [2]", "expected --classifier or --judges with them"),
    ("--thresholds abc", "thresholds"),
    ("--knobs.a b", "knobs"),
    ("--model.stepz 3", "'stepz' is not accepted"),
    ("--model", "--model: expected one argument"),
    ("--checkpoint x", "expected one of --checkpoint, --model and --compare"),
    ("--subject x.yaml", "'x.yaml' is not allowed: it is no file here"),
    ("--data.base mnits", "did you mean 'mnist' instead of 'mnits'?"),
    ("--config /nowhere", "'/nowhere'"),
    ("--config {broken_yaml}", "broken.yaml' is no YAML file"),
    ("--samplse_per_target 3", "did you mean 'samples_per_target'"),
    ("stray", "unrecognized arguments: stray"),
    ("--compare x", "expected one of --checkpoint, --model and --compare"),
]
"""Of `evaluate.py`, behind the model file of the exact oracle."""

ALONE = [
    ("evaluate", "", "expected one of --checkpoint, --model and --compare, got none"),
    ("evaluate", "--model /nowhere.yaml", "no model file at '/nowhere.yaml'"),
    ("evaluate", "--model {empty_yaml}", "empty.yaml': expected keys with values, got nothing"),
    ("evaluate", "--model {list_yaml}", "list.yaml': expected keys with values"),
    ("evaluate", "--model {broken_yaml}", "broken.yaml' is no YAML file"),
    ("evaluate", "--model {bomb_yaml}", "bomb.yaml': expected at most 100000 values"),
    ("evaluate", "--model configs/quickstart.yaml", "is the config of a training"),
    ("evaluate", "--checkpoint {text_ckpt}", "text.ckpt' is damaged or not a checkpoint"),
    ("evaluate", "--checkpoint {empty_ckpt}", "empty.ckpt' is damaged or not a checkpoint"),
    ("evaluate", "--checkpoint {objects_ckpt}", "could run a stranger's code"),
    ("evaluate", "--checkpoint {foreign_ckpt}", "foreign.ckpt' is not a checkpoint of fibermodels"),
    ("evaluate", "--checkpoint /nowhere", "no checkpoint at '/nowhere'"),
    ("evaluate", "--compare /nowhere", "no result in '/nowhere'"),
    ("evaluate", "--compare {folder}", "expected a metrics.json there"),
    ("evaluate", "--compare", "--compare: expected at least one argument"),
    ("export", "", "arguments are required: checkpoint, out"),
    ("export", "--checkpoint /nowhere --out {folder}/m", "no checkpoint at '/nowhere'"),
    ("export", "--checkpoint {text_ckpt} --out {folder}/m", "text.ckpt' is damaged or not a checkpoint"),
    ("export", "--checkpoint {foreign_ckpt} --out {folder}/m", "foreign.ckpt' is not a checkpoint of fibermodels"),
    ("export", "--checkpoint {text_ckpt} --out {folder}", "got the folder"),
    ("export", "--checkpoint {text_ckpt} --out {folder}/new/", "got the folder"),
    ("export", "--checkpoint {text_ckpt} --out {file}/m", "file' is a file"),
    ("export", "--checkpoint x --out=", "got the folder ''"),
    ("export", "--outt x", "did you mean 'out' instead of 'outt'?"),
    ("export", "--half maybe", "maybe"),
]
"""Commands, and their arguments."""
