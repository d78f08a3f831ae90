"""Where a pipeline's UNet looks in its image for each token of the prompt: the maps of its cross-attention.

In a layer with queries `Q` `(N, d)` of the image's places and keys `K` `(L, d)` of the tokens, the map is

    M = softmax(Q K^T / sqrt(d)),    (N, L),

the mean over the layer's heads here. Each place's numbers add up to 1 over the tokens.

Reference: Augustin et al., DiG-IN, arXiv 2311.17833, appendix A.3.1 and D.1.3.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


@contextmanager
def attention_maps(unet: nn.Module) -> Iterator[list[Tensor]]:
    """A list that receives each cross-attention's map, `(B, N, L)`, in the order of their calls in the `with` block.

    The network's outputs stay what they are, bit for bit: the maps are computed beside them, from what the layers'
    projections give, without gradients.

    Args:
        unet: a diffusers network; `N` is the number of places of a layer, `L` that of tokens.

    Raises:
        ValueError: a network without cross-attention.
    """
    layers = [layer for layer in unet.modules() if getattr(layer, "is_cross_attention", False)]
    if not layers:
        raise ValueError(f"attention_maps: expected a network with cross-attention, got {type(unet).__name__}")
    found: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in layers:
            for hook in _hooks(layer, found):
                hooks.callback(hook.remove)
        yield found


def _hooks(layer: Any, found: list[Tensor]) -> list[Any]:
    """Hooks of one attention's projections, and of the layer itself, after which its map is appended."""
    seen: dict[str, Tensor] = {}

    def reads(name: str) -> Any:
        return lambda module, given, output: seen.update({name: output.detach()})

    def ends(module: Any, given: Any, output: Any) -> None:
        query, key = (layer.head_to_batch_dim(seen.pop(name)) for name in ("query", "key"))
        maps = layer.get_attention_scores(query, key).unflatten(0, (-1, layer.heads))
        found.append(maps.float().mean(1))

    return [
        layer.to_q.register_forward_hook(reads("query")),
        layer.to_k.register_forward_hook(reads("key")),
        layer.register_forward_hook(ends),
    ]


def attended_mask(maps: list[Tensor], tokens: list[int], map_shape: tuple[int, ...], threshold: float) -> Tensor:
    """Where tokens are looked for: the mean of their maps, resized to `(H, W)` and divided by its maximum.

    Values below the threshold become 0, and the others stay, so a mask `(B, 1, H, W)` has numbers in [0, 1] and reaches
    1 in every row.

    Args:
        maps: of `attention_maps`, each `(B, N, L)`; `N` may differ.
        tokens: places of the tokens in the prompt, from 0 to `L - 1`.
        map_shape: `(..., H, W)`; the layers' places are grids of this ratio of the sides.
        threshold: in [0, 1].

    Raises:
        ValueError: a token outside of the prompt.

    Reference: DiG-IN, appendix D.1.4, without the segmentation network that follows there.
    """
    height, width = map_shape[-2:]
    total = maps[0].new_zeros(len(maps[0]), 1, height, width)
    for each in maps:
        if not all(0 <= token < each.shape[2] for token in tokens):
            raise ValueError(f"attended_mask: tokens: expected places from 0 to {each.shape[2] - 1}, got {tokens}")
        rows = round((each.shape[1] * height / width) ** 0.5)
        grid = each[:, :, tokens].mean(2).unflatten(1, (1, rows, -1))
        total += interpolate(grid, (height, width), mode="bilinear")
    mask = total / total.amax((1, 2, 3), keepdim=True)
    return torch.where(mask < threshold, 0.0, mask)
