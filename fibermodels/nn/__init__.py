"""Networks that know no objective."""

from fibermodels.nn.affine_couplings import AffineCouplings, ConditionalAffine, conditional_flow
from fibermodels.nn.conv_block import ConvBlock, conv, patch_decoder, patch_encoder, patch_grid
from fibermodels.nn.feature_map import FeatureMap
from fibermodels.nn.freia import FreiaFlow
from fibermodels.nn.gaussianise import Gaussianise
from fibermodels.nn.invertible import Invertible, full_precision
from fibermodels.nn.measured import Measured
from fibermodels.nn.mixer import Mixer
from fibermodels.nn.mlp import MLP
from fibermodels.nn.network import Control, Network, Residuals, Steerable
from fibermodels.nn.regression import Regression
from fibermodels.nn.residual_mlp import ResidualMLP, count_parameters
from fibermodels.nn.standardise import FlatCondition, Standardise
from fibermodels.nn.time_embedding import TimeEmbedding, spread_times
from fibermodels.nn.unet import UNet
from fibermodels.nn.upsampler import Upsampler

__all__ = [
    "MLP",
    "AffineCouplings",
    "ConditionalAffine",
    "Control",
    "ConvBlock",
    "FeatureMap",
    "FlatCondition",
    "FreiaFlow",
    "Gaussianise",
    "Invertible",
    "Measured",
    "Mixer",
    "Network",
    "Regression",
    "ResidualMLP",
    "Residuals",
    "Standardise",
    "Steerable",
    "TimeEmbedding",
    "UNet",
    "Upsampler",
    "conditional_flow",
    "conv",
    "count_parameters",
    "full_precision",
    "patch_decoder",
    "patch_encoder",
    "patch_grid",
    "spread_times",
]
