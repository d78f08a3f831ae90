"""Publishes what a checkpoint trained: python export.py --checkpoint FILE.ckpt --out data/weights/NAME

Writes NAME.safetensors and NAME.json (sha256, configuration, scores on the test split).
"""

from fibermodels.training.publish import main

if __name__ == "__main__":
    main()
