"""One thread per test process, as the suite runs in as many processes as there are cores; and colour digits."""

import os

import pytest
import torch

torch.set_num_threads(1)
os.environ["FIBERMODELS_IMPORTS"] = "controllable,examples,toy"  # a prior of the tests, a user's network


@pytest.fixture(scope="module")
def digits():
    """Colour digits with the exact sampler and a subject that is blind to colour, of random weights."""
    from fibermodels.models import Oracle
    from fibermodels.suites import ColourDigits, DecolorisedEncoder

    data = ColourDigits()
    torch.manual_seed(0)
    return data, Oracle(data), DecolorisedEncoder(width=32, blocks=1), data.split("test").images(slice(6))
