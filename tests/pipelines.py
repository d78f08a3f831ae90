"""Tiny random pipelines, written by diffusers' own `save_pretrained`, so that nothing is fetched."""

from pathlib import Path
from typing import Literal

import torch
from guided_diffusion import reference

Kind = Literal["pixel", "latent", "text", "flow"]
KINDS: tuple[Kind, ...] = ("pixel", "latent", "text", "flow")


def tiny_pipeline(folder: Path, kind: Kind, seed: int = 0, **scheduler) -> Path:
    """A pipeline's folder, with weights away from their initialisation.

    - `pixel`: a `UNet2DModel` over images 3x16x16 that predicts the noise, DDPM's betas.
    - `latent`: a `UNet2DConditionModel` without text over maps 4x8x8 that predicts v, 3 classes (2 says none), and a
      VAE of images 3x16x16.
    - `text`: a `UNet2DConditionModel` over such maps that predicts the noise, with VAE, CLIP text encoder, tokenizer.
    - `flow`: a `DiTTransformer2DModel` over such maps, with learned variance and 3 classes, flow matching, VAE.

    Args:
        folder: where to.
        kind: see above.
        seed: of the weights.
        scheduler: settings that replace those of the scheduler.
    """
    import diffusers

    torch.manual_seed(seed)
    network, settings = _network(kind)
    name = "FlowMatchEulerDiscreteScheduler" if kind == "flow" else "DDPMScheduler"
    if kind != "flow":
        settings = settings | {"clip_sample": False}
    _randomised(network).save_pretrained(folder / ("transformer" if kind == "flow" else "unet"))
    getattr(diffusers, name)(**settings | scheduler).save_pretrained(folder / "scheduler")
    if kind != "pixel":
        _randomised(tiny_vae()).save_pretrained(folder / "vae")
    if kind == "text":
        _text_encoder(folder)
    return folder


def tiny_guided_diffusion(file: Path) -> Path:
    """A checkpoint in the layout of `256x256_diffusion_uncond.pt`, cheap at its size; attention in the middle alone."""
    state = reference(width=32, mult=(1, 1, 1, 1, 1, 4), blocks=1, attended=set(), head=64).state_dict()
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file)
    return file


def tiny_vae(colours: int = 3, **options):
    """An autoencoder of images 16x16 that halves their sides."""
    from diffusers import AutoencoderKL

    own = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 16, "scaling_factor": 0.5}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(in_channels=colours, out_channels=colours, **own | blocks | options)


def _network(kind):
    from diffusers import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel

    unet = {"layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4, "attention_head_dim": 4}
    maps = {"sample_size": 8, "in_channels": 4, "out_channels": 4}
    if kind == "pixel":
        blocks = {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        }
        return UNet2DModel(sample_size=16, **unet, **blocks), {"beta_schedule": "linear"}
    sd = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    if kind == "latent":
        blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        network = UNet2DConditionModel(
            **unet, **maps, **blocks, mid_block_type="UNetMidBlock2D", num_class_embeds=3, cross_attention_dim=8
        )
        return network, sd | {"prediction_type": "v_prediction"}
    if kind == "text":
        blocks = {
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        }
        return UNet2DConditionModel(**unet, **maps, **blocks, cross_attention_dim=8), sd
    size = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "num_embeds_ada_norm": 2}
    return DiTTransformer2DModel(sample_size=8, in_channels=4, out_channels=8, patch_size=2, **size), {"shift": 3.0}


def _randomised(network):
    """Away from zero initialisations, so that nothing is right by accident."""
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return network


def _text_encoder(folder: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=12)
    tokenizer.save_pretrained(folder / "tokenizer")
    start, end = len(words) - 2, len(words) - 1
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    _randomised(CLIPTextModel(config)).save_pretrained(folder / "text_encoder")
