"""Errors of shapes and ranges at the borders, in the words of who gives them."""

import operator
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


class NotFinite(ValueError):
    """NaN or infinity where finite numbers are expected."""


def check_shape(x: Tensor, shape: tuple[int, ...], what: str = "images", word: str = "images") -> None:
    """Refuses anything but inputs `(B, *shape)` of floating point; `word` is what they are called."""
    sizes, range_ = ", ".join(map(str, shape)), " in [0, 1]" if word == "images" else ""
    if x.ndim == len(shape) and (x.shape[1:] == torch.Size(shape)[1:] if len(shape) > 1 else x.shape == shape):
        one = word.removesuffix("s")
        raise ValueError(f"{what}: expected shape (B, {sizes}), got one {one}: give {one}[None]")
    if tuple(x.shape[1:]) != tuple(shape) or x.ndim != len(shape) + 1:
        raise ValueError(f"{what}: expected shape (B, {sizes}), got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"{what}: expected floating point{range_}, got {x.dtype}")


def check_images(images: Tensor, shape: tuple[int, ...], what: str = "images") -> None:
    """Refuses anything but finite float images `(B, *shape)` in [0, 1]."""
    check_shape(images, shape, what)
    low, high = (float(v) for v in torch.aminmax(images)) if images.numel() else (0.0, 1.0)
    if not (low >= -1e-4 and high <= 1 + 1e-4):  # written so that NaN fails too
        raise ValueError(f"{what}: expected values in [0, 1], got [{low:.4g}, {high:.4g}]")


def check_finite(values: Tensor, what: str) -> None:
    """Refuses NaN and infinity.

    Raises:
        NotFinite: naming the first row that has one.
    """
    if not values.isfinite().all():
        rows = (~values.isfinite()).flatten(1).any(1) if values.ndim > 1 else ~values.isfinite()
        raise NotFinite(f"{what}: expected finite numbers, got NaN or infinity first in row {int(rows.nonzero()[0])}")


def check_feature_shape(owner: str, h: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Returns representations `(B, *shape)`, and refuses None and those that a model was not built for."""
    if h is None:
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"{owner}: h: expected representations of shape (B, {sizes}), got None")
    given = tuple(h.shape[1:])
    if given == tuple(shape):
        return h
    if tuple(h.shape) == tuple(shape):
        raise ValueError(
            f"{owner}: h: expected representations (B, {', '.join(map(str, shape))}), got one without a batch, "
            f"{list(shape)}: give h[None]"
        )
    kinds = {0: "a number", 1: "a vector", 3: "a spatial map"}
    theirs, ours = (kinds.get(len(each), f"of {len(each)} dimensions") for each in (given, shape))
    hint = f"give the model feature_shape {list(given)}"
    raise ValueError(
        f"{owner}: the subject's representation is {theirs}, {list(given)}, and the model was built for {ours}, "
        f"{list(shape)}: {hint}"
    )


def check_number(
    owner: str,
    name: str,
    value: float | None,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Refuses a number outside its range, and NaN; None passes.

    Args:
        owner: the class whose argument it is.
        name: the argument.
        value: what was given.
        least: the smallest number that is allowed.
        above: a bound that the number must exceed.
        most: the largest number that is allowed.
        below: a bound that the number must stay under.
    """
    if value is None:
        return
    limits = {"of at least": least, "above": above, "of at most": most, "below": below}
    compare = {"of at least": operator.ge, "above": operator.gt, "of at most": operator.le, "below": operator.lt}
    given = {word: limit for word, limit in limits.items() if limit is not None}
    if not all(compare[word](value, limit) for word, limit in given.items()):  # NaN fails each
        wanted = " and ".join(f"{word} {limit}" for word, limit in given.items())
        raise ValueError(f"{owner}: {name}: expected a number {wanted}, got {value}")


def check_numbers(owner: str, values: Mapping[str, float | None], **limits: float | None) -> None:
    """Refuses numbers outside of one range; limits as in `check_number`."""
    for name, value in values.items():
        check_number(owner, name, value, **limits)


def check_choice(owner: str, name: str, value: str, choices: Iterable[str]) -> None:
    """Refuses a word that is not among the choices."""
    if value not in (known := list(choices)):
        raise ValueError(f"{owner}: {name} must be one of {known}, got '{value}'")
