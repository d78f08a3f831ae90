"""The UNet of guided-diffusion, written anew from its published description, with the names of its checkpoints."""

import math

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """Dhariwal & Nichol, section 3: norm, SiLU, convolution, twice; the time scales and shifts the second norm."""

    def __init__(self, own, out, time, scaled, resize=None):
        super().__init__()
        self.scaled, self.resize = scaled, resize
        self.in_layers = nn.Sequential(nn.GroupNorm(32, own), nn.SiLU(), nn.Conv2d(own, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * out if scaled else out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if own == out else nn.Conv2d(own, out, 1)

    def forward(self, x, time):
        inner = self.in_layers[1](self.in_layers[0](x))
        if self.resize is not None:
            inner, x = self.resize(inner), self.resize(x)
        inner = self.in_layers[2](inner)
        told = self.emb_layers(time)[..., None, None]
        if self.scaled:
            scale, shift = told.chunk(2, 1)
            inner = self.out_layers[1:](self.out_layers[0](inner) * (1 + scale) + shift)
        else:
            inner = self.out_layers(inner + told)
        return self.skip_connection(x) + inner


class SelfAttention(nn.Module):
    """Softmax attention over places, head by head, with the rows of `qkv` in either order."""

    def __init__(self, channels, head, new_order):
        super().__init__()
        self.head, self.new_order = head, new_order
        self.norm, self.qkv = nn.GroupNorm(32, channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, time):
        flat = x.flatten(2)
        rows = self.qkv(self.norm(flat))
        if self.new_order:
            query, key, value = (part.unflatten(1, (-1, self.head)) for part in rows.chunk(3, 1))
        else:
            query, key, value = rows.unflatten(1, (-1, 3, self.head)).unbind(2)
        weight = torch.softmax(torch.einsum("bhct,bhcs->bhts", query, key) / math.sqrt(self.head), -1)
        attended = torch.einsum("bhts,bhcs->bhct", weight, value).flatten(1, 2)
        return x + self.proj_out(attended).view_as(x)


class Resample(nn.Module):
    def __init__(self, channels, up):
        super().__init__()
        self.up = up
        if up:
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        else:
            self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, time):
        return self.conv(functional.interpolate(x, scale_factor=2)) if self.up else self.op(x)


def doubled(x):
    return functional.interpolate(x, scale_factor=2)


def halved(x):
    return functional.avg_pool2d(x, 2)


class Reference(nn.Module):
    """The UNet of the paper's code, with its names."""

    def __init__(
        self, width, mult, blocks, attended, head, scaled=True, updown=True, new_order=False, classes=None, sigma=True
    ):
        super().__init__()
        self.width, time = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        if classes:
            self.label_emb = nn.Embedding(classes, time)

        def block(own, out, level):
            layers = [Residual(own, out, time, scaled)]
            return layers + ([SelfAttention(out, head, new_order)] if 2**level in attended else [])

        def resample(channels, up):
            if not updown:
                return Resample(channels, up)
            return Residual(channels, channels, time, scaled, doubled if up else halved)

        channels = width * mult[0]
        skips = [channels]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, channels, 3, padding=1)])])
        for level, factor in enumerate(mult):
            for _ in range(blocks):
                self.input_blocks.append(nn.ModuleList(block(channels, width * factor, level)))
                channels = width * factor
                skips.append(channels)
            if level < len(mult) - 1:
                self.input_blocks.append(nn.ModuleList([resample(channels, False)]))
                skips.append(channels)
        middle = SelfAttention(channels, head, new_order)
        sides = (Residual(channels, channels, time, scaled) for _ in range(2))
        self.middle_block = nn.ModuleList([next(sides), middle, next(sides)])
        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(mult))):
            for i in range(blocks + 1):
                layers = block(channels + skips.pop(), width * factor, level)
                channels = width * factor
                if level and i == blocks:
                    layers.append(resample(channels, True))
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, 6 if sigma else 3, 3, padding=1)
        )

    def forward(self, x, steps, label=None):
        half = self.width // 2
        phases = steps[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        time = self.time_embed(torch.cat((phases.cos(), phases.sin()), 1))
        if label is not None:
            time = time + self.label_emb(label)
        x, kept = self.input_blocks[0][0](x), []
        kept.append(x)
        for layers in self.input_blocks[1:]:
            for layer in layers:
                x = layer(x, time)
            kept.append(x)
        for layer in self.middle_block:
            x = layer(x, time)
        for layers in self.output_blocks:
            x = torch.cat((x, kept.pop()), 1)
            for layer in layers:
                x = layer(x, time)
        return self.out(x)


def reference(**options):
    """A tiny one with random weights."""
    torch.manual_seed(0)
    tiny = {"width": 32, "mult": (1, 1, 2), "blocks": 2, "attended": {2, 4}, "head": 16}
    return Reference(**tiny | options).eval()
