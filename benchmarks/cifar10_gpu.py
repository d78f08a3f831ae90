"""The recipe of CIFAR-10 at full size on a GPU, in at most 40 minutes, in stages that each leave a result.

    FIBERMODELS_DATA=... python benchmarks/cifar10_gpu.py [--minutes 40] [--width 384]

A pilot measures the steps per second. Then every stage trains for its share of the minutes, and is scored like the rows
of `cifar10.py`. Finished stages are skipped, interrupted ones resume, and none starts when the minutes are over.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from cifar10 import judged, unpack
from cifar10_rows import CONFIGS, EPOCH, FEATURES, LATER, WIDTH, parts, subject
from jsonargparse import auto_cli
from runner import RUNS, Row, compare, publish, score_run, scored, train


@dataclass(frozen=True)
class Stage:
    """A training and its result.

    Args:
        name: of the result.
        subject: `<network>-<cut>`.
        share: of the minutes that are for training.
        start: the stage whose weights it adapts; empty starts at random.
    """

    name: str
    subject: str
    share: float
    start: str = ""


STAGES = (
    Stage("first", "resnet20-spatial", 0.05),
    Stage("spatial", "resnet20-spatial", 0.55),
    Stage("pooled", "resnet20-pooled", 0.15),
    Stage("logits", "resnet20-logits", 0.1),
    Stage("resnet56", "resnet56-spatial", 0.15, "spatial"),
)

FOR_TRAINING = 0.75
"""Of the minutes; the rest is for reading images, validation and scores."""

PILOT = 40
"""Steps of the pilot, of which the first compile and warm up."""


def options(stage: Stage, steps: int, width: int, batch: int, more: list[str]) -> list[object]:
    """The options of `train.py` for a stage."""
    network, _, cut = stage.subject.partition("-")
    own: list[object] = [*subject(stage.subject), FEATURES, parts(f"{network}-layer1", f"{network}-layer2")]
    own += [LATER, "[]" if cut == "logits" else parts(network), WIDTH, width]
    epochs = -(-steps * batch // (32 * EPOCH))
    own += ["--data.init_args.batch_size", batch, "--trainer.max_epochs", epochs]
    own += ["--trainer.limit_train_batches", -(-steps // epochs), "--ema_decay", 0.998 if steps >= 1000 else 0.99]
    return [*own, "--trainer.check_val_every_n_epoch", max(1, epochs // 10), *more]


def rate(checkpoint: Path) -> float:
    """Steps per second of a finished training."""
    from fibermodels.training.checkpoint import read

    content = read(checkpoint)
    return float(content["global_step"]) / float(content["fibermodels"]["seconds"])


def main(
    minutes: float = 40,
    width: int = 384,
    batch: int = 256,
    targets: int = 2000,
    samples: int = 9,
    out: str = "results/cifar10_gpu",
    more: list[str] | None = None,
) -> None:
    """Trains and scores the stages.

    Args:
        minutes: of the whole script.
        width: channels of the generators.
        batch: images of a step.
        targets: test images whose fibers are sampled.
        samples: of each.
        out: folder of the results.
        more: further options of `train.py`, such as `--trainer.precision` and `bf16-mixed`.
    """
    begin, folder, further = time.monotonic(), Path(out), more or []
    unpack()
    config, first = CONFIGS / "energy_score.yaml", STAGES[0]
    pace = rate(train(config, "cifar10_gpu/pilot", *options(first, PILOT, width, batch, further)))
    print(f"{pace:.2f} steps of {batch} images per second", flush=True)
    for stage in STAGES:
        if scored(folder / stage.name):
            continue
        if time.monotonic() - begin > 60 * minutes:
            print(f"the {minutes:g} minutes are over: '{stage.name}' and what follows are left", flush=True)
            break
        steps = max(2, int(stage.share * FOR_TRAINING * 60 * minutes * pace))
        start = ["--adapt_from", RUNS / "cifar10_gpu" / stage.start / "checkpoints/last.ckpt"] if stage.start else []
        last = train(config, f"cifar10_gpu/{stage.name}", *options(stage, steps, width, batch, further), *start)
        publish(last, RUNS / "cifar10_gpu" / stage.name / "model", "--half", "true")
        row = Row(stage.name, series=stage.name, targets=targets, samples=samples)
        score_run(row, last, folder, *judged(stage.subject))
    compare([folder / stage.name for stage in STAGES], folder, across_subjects=True)


if __name__ == "__main__":
    auto_cli(main)
