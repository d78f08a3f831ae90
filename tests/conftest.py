"""One thread per test process: the suite runs in as many processes as there are cores."""

import os

import torch

torch.set_num_threads(1)
os.environ["FIBERMODELS_IMPORTS"] = "controllable"  # a prior of the tests, which descriptions name
