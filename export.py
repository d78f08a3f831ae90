"""Publishes what a checkpoint trained.

python export.py --checkpoint FILE.ckpt --out data/weights/NAME
python export.py --checkpoint FILE.ckpt --out DIR --folder true [--result DIR] [--license mit]

Writes NAME.safetensors, NAME.frozen.safetensors (the frozen parts) and NAME.json (sha256, configuration, scores on the
test split), or a folder for the hub of Hugging Face.
"""

from fibermodels.cli import run

if __name__ == "__main__":
    run("export")
