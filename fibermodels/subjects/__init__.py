"""Networks under study."""

from fibermodels.subjects.classifier import Classifier
from fibermodels.subjects.codes import Codes
from fibermodels.subjects.cut import Cut
from fibermodels.subjects.filter_energies import FilterEnergies
from fibermodels.subjects.finetuned import FinetunedClassifier
from fibermodels.subjects.head import Head
from fibermodels.subjects.live import Live
from fibermodels.subjects.low_frequencies import LowFrequencies
from fibermodels.subjects.sparse_autoencoder import SparseAutoencoder
from fibermodels.subjects.spatial_mean import SpatialMean
from fibermodels.subjects.timm import Timm
from fibermodels.subjects.torchvision import Torchvision
from fibermodels.subjects.transformers import Transformers

__all__ = [
    "Classifier",
    "Codes",
    "Cut",
    "FilterEnergies",
    "FinetunedClassifier",
    "Head",
    "Live",
    "LowFrequencies",
    "SparseAutoencoder",
    "SpatialMean",
    "Timm",
    "Torchvision",
    "Transformers",
]
