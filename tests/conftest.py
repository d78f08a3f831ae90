"""One thread per test process: the suite runs in as many processes as there are cores."""

import os

import torch

torch.set_num_threads(1)
os.environ["FIBERMODELS_IMPORTS"] = "controllable,examples,toy"  # a prior of the tests, a user's network
