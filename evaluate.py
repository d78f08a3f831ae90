"""Scores a fiber model, or compares results.

python evaluate.py --checkpoint FILE.ckpt --out DIR
python evaluate.py --model FILE.yaml --out DIR
python evaluate.py --compare DIR [DIR ...] --out DIR
"""

from fibermodels.cli import run

if __name__ == "__main__":
    run("evaluate")
