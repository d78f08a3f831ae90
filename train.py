"""Trains whatever a config describes: python train.py --config configs/quickstart.yaml [--any.key value]"""

from fibermodels.cli import run

if __name__ == "__main__":
    run("train")
