"""A network of three convolutions, which trains within a minute on one CPU core: the classifiers of the audits."""

from torch import nn

from examples.cifar_judges import FEATURES, conv, pooled


class SmallCnn(nn.Sequential):
    """Images `(B, 3, 32, 32)` to features `(B, 128)`."""

    def __init__(self) -> None:
        super().__init__(conv(3, 32, 2), conv(32, 48), conv(48, FEATURES, 2), pooled())
