"""Trains whatever a config describes: python train.py --config configs/quickstart.yaml [--any.key value]"""

from fibermodels.training.cli import main

if __name__ == "__main__":
    main()
