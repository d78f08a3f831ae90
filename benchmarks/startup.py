"""Start-up and evaluation of two versions of the code, side by side.

    FIBERMODELS_DATA=... python benchmarks/startup.py COMMIT [--rounds 7]

Both run the same commands in turn, `before` from a clone of that commit, and the table shows the least processor time
of each and their ratio. The least time is that of the run that others disturbed least.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from jsonargparse import auto_cli
from runner import show

ROOT = Path(__file__).parents[1]

COMMANDS = {
    "help": "train.py --help",
    "training, one step": "train.py --config configs/quickstart.yaml --trainer.max_epochs 1 "
    "--trainer.limit_train_batches 1 --overwrite true --runs FOLDER",
    "evaluation of the oracle": "evaluate.py --model configs/digits/oracle.yaml --num_targets 250 --overwrite true "
    "--out FOLDER/out",
    "evaluation of a flow map": "evaluate.py --model configs/colour_mnist/feedback.yaml --num_targets 500 "
    "--overwrite true --out FOLDER/out",
}


def seconds(command: str, root: Path) -> float:
    """The processor time of a command in the clone at `root`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, *command.split()], cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: in '{root}', {command}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(before: str, rounds: int = 7) -> None:
    """Measures and prints the table.

    Args:
        before: the commit to compare with.
        rounds: runs of each command in each version; the first of them fills caches and does not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "before"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(old)], check=True)
        subprocess.run(["git", "-C", str(old), "checkout", "--quiet", before], check=True)
        rows = []
        for name, command in COMMANDS.items():
            times: list[list[float]] = [[], []]
            for _ in range(rounds):
                for found, root in zip(times, (old, ROOT), strict=True):
                    found.append(seconds(command.replace("FOLDER", f"{folder}/{root.name}"), root))
            least = [min(found[1:]) for found in times]
            rows.append((name, *(f"{value:.2f}" for value in least), f"{least[1] / least[0]:.3f}"))
        show(["command", "before, s", "now, s", "ratio"], rows)


if __name__ == "__main__":
    auto_cli(main)
