"""Publishes what a checkpoint trained: python export.py --checkpoint FILE.ckpt --out data/weights/NAME

Writes NAME.safetensors and NAME.json (sha256, configuration, scores on the test split).
"""

from fibermodels.cli import run

if __name__ == "__main__":
    run("export")
