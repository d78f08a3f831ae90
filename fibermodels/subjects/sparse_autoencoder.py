"""Sparse codes: a dictionary of many features, of which each place of a map uses a few.

    a = W * (x - m) / s + c                   pre-activations (K, H, W); W is 1 x 1 or 3 x 3
    z = relu(a) of the k largest, else 0      topk, the k of each place
    z = a where a > theta, else 0             jumprelu, with a threshold of each feature
    x_hat = m + s (D z + b)                   the columns of D (C, K) have length 1 and serve all places

    loss = |x - x_hat|^2 / V + revival + (jumprelu only) sparsity (|z|_0 / k - 1)^2

`m` and `s`, the mean of each channel and one deviation for all, are those of the first training batch, and `V` is the
variance of the batch, so the scale of the inputs changes nothing. The threshold learns by a window of width
`BANDWIDTH` in place of the derivative of the step. All thresholds start where `START k` features of a place of the
first batch are on. They learn `SPEED` times as fast as the weights, or a training of minutes would not reach the goal.

A feature that has not been on for `patience` steps is dead. The best `revived` dead features of each place learn to
reconstruct what the others leave: `|e - D z_dead|^2 / V / 32`, with `e = x - x_hat` held fixed.

EnergyDPS calls the same with a 3 x 3 encoder a transcoder.

References: Gao et al., arXiv 2406.04093 (TopK, dead features); Rajamanoharan et al., arXiv 2407.14435 (JumpReLU, and
its loss with a goal for the number of features); "A Distributional View for Visual Mechanistic Interpretability:
KL-Minimal Soft-Constraint Principle" (EnergyDPS), appendix C.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from fibermodels.checks import check_choice, check_number, check_numbers
from fibermodels.trainable import Trainable

Gate = Literal["topk", "jumprelu"]

BANDWIDTH, SPEED, START = 0.1, 5.0, 4
"""Of the window through which a threshold learns, in units of `s`; the logarithm of a threshold over its parameter, so
that it learns so many times as fast as the weights; and how many times the goal are on at first, so that all features
learn something."""

REVIVAL = 1 / 32
"""The weight of the dead features' loss."""


class SparseAutoencoder(Trainable):
    """A dictionary of features and their encoder, trained on representations (see `data.Representations`).

    Validation reports the fraction of variance explained (`explained`), the mean number of features at a place that are
    on (`active`), and the share of dead ones (`dead`). `subjects.Codes` makes a subject of it.

    Args:
        input_shape: `[D]`, `[C, L]` or `[C, H, W]` of the representations; a vector is one place.
        features: `K`.
        gate: `topk` or `jumprelu`.
        k: features of a place; with `jumprelu` the goal of their mean number.
        kernel: 1, or 3 for maps: how many places the encoder sees across.
        sparsity: the weight of that goal, with `jumprelu`.
        patience: training steps without activation after which a feature is dead.
        revived: dead features of a place that learn; 0 lets them be.
        weights: a safetensors file that `export.py` wrote; None starts at random.

    Raises:
        ValueError: a number is out of range; an encoder of 3 x 3 places for inputs that are no maps.
        FileNotFoundError: the file does not exist.
    """

    centre: Tensor
    spread: Tensor
    idle: Tensor

    def __init__(
        self,
        input_shape: list[int],
        features: int = 512,
        gate: Gate = "topk",
        k: int = 8,
        kernel: int = 1,
        sparsity: float = 0.1,
        patience: int = 100,
        revived: int = 32,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        check_choice("SparseAutoencoder", "gate", gate, get_args(Gate))
        check_numbers("SparseAutoencoder", {"features": features, "k": k, "patience": patience}, least=1)
        check_numbers("SparseAutoencoder", {"sparsity": sparsity, "revived": revived}, least=0)
        check_number("SparseAutoencoder", "k", k, most=features)
        if kernel not in (1, 3) or (kernel == 3 and len(input_shape) != 3):
            raise ValueError(f"SparseAutoencoder: kernel: expected 1, or 3 for maps, got {kernel} for {input_shape}")
        self.input_shape, channels = tuple(input_shape), input_shape[0]
        self.codes_shape = (features, *input_shape[1:])
        """Of the codes of one input."""
        self.gate, self.k, self.sparsity, self.patience, self.revived = gate, k, sparsity, patience, revived
        start = normalize(torch.randn(channels, features), dim=0)
        self.dictionary = nn.Parameter(start)
        self.encoder = nn.Conv2d(channels, features, kernel, padding=kernel // 2)
        with torch.no_grad():
            self.encoder.weight.zero_()[..., kernel // 2, kernel // 2] = start.T
            self.encoder.bias.zero_()  # type: ignore[union-attr]
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.level = nn.Parameter(torch.zeros(features, 1, 1)) if gate == "jumprelu" else None
        """`log(theta) / SPEED`."""
        self.register_buffer("centre", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.zeros(()))  # until it is measured
        self.register_buffer("idle", torch.zeros(features))
        self.load_weights(weights)

    def activations(self, x: Tensor) -> Tensor:
        """Pre-activations `s a` `(B, *codes_shape)` of representations `(B, *input_shape)`, in their units."""
        return (self._scale * self._activations(self._normalised(x))).reshape(len(x), *self.codes_shape)

    def encode(self, x: Tensor, through: bool = False) -> Tensor:
        """Codes `s z` `(B, *codes_shape)`, at least 0, in the units of the representations.

        Args:
            x: representations `(B, *input_shape)`.
            through: whether their derivative is that of the pre-activations, so that a feature that is off has one.
        """
        a = self._activations(self._normalised(x))
        z = self._gated(a)
        z = z.detach() + a - a.detach() if through else z
        return (self._scale * z).reshape(len(x), *self.codes_shape)

    def decode(self, codes: Tensor) -> Tensor:
        """Representations `(B, *input_shape)` from codes `(B, *codes_shape)`."""
        z = codes.reshape(*codes.shape[:2], *self._places) / self._scale
        x = self.centre + self._scale * (self._mixed(z) + self.bias)
        return x.reshape(len(codes), *self.input_shape)

    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        if self.training and not self.spread:
            self._measure(x)
        x = self._normalised(x)
        a = self._activations(x)
        z = self._gated(a)
        rest = x - self._mixed(z) - self.bias
        variance = (x - x.mean((0, 2, 3), keepdim=True)).square().mean().clamp(min=1e-12)
        terms = {"reconstruction": _mean_square(rest) / variance}
        if self.level is not None:
            active = self._open(a, self.level).sum(1).mean((1, 2))
            terms["sparsity"] = self.sparsity * (active / self.k - 1).square()
        if self.training:
            self.idle.add_(1).masked_fill_((z.detach() > 0).any(0).flatten(1).any(1), 0)
        if self.revived:
            terms["revival"] = REVIVAL * self._dead_loss(a, rest.detach()) / variance
        return terms

    @torch.no_grad()
    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        z = self.encode(x)
        x, found = (value.reshape(len(x), -1, *self._places) for value in (x, self.decode(z)))
        variance = (x - x.mean((0, 2, 3), keepdim=True)).square().mean()
        active = (z > 0).flatten(2).sum(1).double().mean(1) if z.ndim > 2 else (z > 0).sum(1).double()
        dead = (self.idle >= self.patience).double().mean()
        return {"explained": 1 - _mean_square(x - found) / variance, "active": active, "dead": dead.expand(len(x))}

    @property
    def _places(self) -> tuple[int, int]:
        """Height and width."""
        height, width = (*self.input_shape[1:], 1, 1)[:2]
        return height, width

    @property
    def _scale(self) -> Tensor:
        """`s`, or 1 before it is measured."""
        return torch.where(self.spread > 0, self.spread, 1)

    def _measure(self, x: Tensor) -> None:
        x = x.detach().reshape(len(x), -1, *self._places)
        self.centre.copy_(x.mean((0, 2, 3))[:, None, None])
        self.spread.copy_((x - self.centre).square().mean().sqrt().clamp(min=1e-12))
        if self.level is not None:
            a = self._activations(self._normalised(x)).detach()
            on = min(a.numel(), round(START * self.k * a.numel() / a.shape[1]))
            self.level.data.fill_(a.flatten().topk(on).values[-1].clamp(min=1e-3).log() / SPEED)

    def _normalised(self, x: Tensor) -> Tensor:
        x = (x.reshape(len(x), -1, *self._places) - self.centre) / self._scale
        return x.contiguous(memory_format=torch.channels_last)  # the features of a place are neighbours in memory

    def _activations(self, x: Tensor) -> Tensor:
        a: Tensor = self.encoder(x - self.bias)
        return a

    def _gated(self, a: Tensor) -> Tensor:
        if self.level is not None:
            return a * self._open(a, self.level)
        return _largest(a, self.k)

    def _open(self, a: Tensor, level: Tensor) -> Tensor:
        """1 where a feature is on, else 0; its derivative in the threshold is that of a ramp of width `BANDWIDTH`."""
        theta = (SPEED * level).exp()
        ramp = ((a.detach() - theta) / BANDWIDTH + 0.5).clamp(0, 1)
        return (a > theta).to(a) + ramp - ramp.detach()

    def _mixed(self, z: Tensor) -> Tensor:
        """`D z`, `(B, C, H, W)`."""
        return conv2d(z, normalize(self.dictionary, dim=0)[:, :, None, None])

    def _dead_loss(self, a: Tensor, rest: Tensor) -> Tensor:
        dead = (self.idle >= self.patience).nonzero()[:, 0]
        if not len(dead):
            return a.new_zeros(len(a))
        z = _largest(a[:, dead], min(self.revived, len(dead)))
        own = normalize(self.dictionary[:, dead], dim=0)[:, :, None, None]
        return _mean_square(rest - conv2d(z, own))


def _largest(a: Tensor, k: int) -> Tensor:
    """`relu(a)` of the `k` largest of each place, else 0, for `a` `(B, K, H, W)`."""
    places = a.movedim(1, -1)
    found = places.topk(k, dim=-1)
    return torch.zeros_like(places).scatter(-1, found.indices, found.values.relu()).movedim(-1, 1)


def _mean_square(x: Tensor) -> Tensor:
    """`(B,)` of `(B, ...)`."""
    return x.square().flatten(1).mean(1)
