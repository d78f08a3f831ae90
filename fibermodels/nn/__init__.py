"""Networks that know no fiber."""

from fibermodels.nn.coupling_flow import CouplingFlow
from fibermodels.nn.residual_mlp import ResidualMLP, count_parameters
from fibermodels.nn.standardise import Standardise
from fibermodels.nn.time_embedding import TimeEmbedding, spread_times

__all__ = ["CouplingFlow", "ResidualMLP", "Standardise", "TimeEmbedding", "count_parameters", "spread_times"]
