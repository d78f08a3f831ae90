"""Networks that know no objective."""

from fibermodels.nn.conditional_affine import ConditionalAffine, conditional_flow
from fibermodels.nn.coupling_flow import CouplingFlow
from fibermodels.nn.feature_map import FeatureMap
from fibermodels.nn.gaussianise import Gaussianise
from fibermodels.nn.mlp import MLP
from fibermodels.nn.network import Control, Network, Residuals, Steerable
from fibermodels.nn.residual_mlp import ResidualMLP, count_parameters
from fibermodels.nn.standardise import Standardise
from fibermodels.nn.time_embedding import TimeEmbedding, spread_times
from fibermodels.nn.unet import UNet

__all__ = [
    "MLP",
    "ConditionalAffine",
    "Control",
    "CouplingFlow",
    "FeatureMap",
    "Gaussianise",
    "Network",
    "ResidualMLP",
    "Residuals",
    "Standardise",
    "Steerable",
    "TimeEmbedding",
    "UNet",
    "conditional_flow",
    "count_parameters",
    "spread_times",
]
