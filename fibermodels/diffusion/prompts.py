"""Prompts as a text-conditional network sees them: sequences `(2, L, D)`, first "no prompt" (the negative prompt), then
the prompt. They are embedded once, by the pipeline's own encoder, or read from a file.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fibermodels.config import locate
from fibermodels.latents.folders import load_part, local_folder, read_json

ENCODER = "CLIPTextModel"
"""The text encoder whose last hidden state is the embedding; what others make can be given as a file."""


@torch.no_grad()
def embed(owner: str, folder: Path, prompt: str, negative_prompt: str) -> Tensor:
    """Embeddings `(2, L, D)` by the `tokenizer` and the `text_encoder` of a pipeline's folder.

    Raises:
        ValueError: another kind of encoder, damaged weights, or no `transformers` installed.
        FileNotFoundError: a folder without one.
    """
    (name, *_) = read_json(owner, folder / "text_encoder" / "config.json").get("architectures") or [None]
    if name != ENCODER:
        raise ValueError(f"{owner}: expected a {ENCODER} as text encoder in '{folder}', got {name}: give embeddings")
    tokenizer = read_tokenizer(owner, folder)
    import transformers

    encoder = load_part(owner, getattr(transformers, ENCODER), folder / "text_encoder")
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(
        [negative_prompt, prompt], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    embedded: Tensor = encoder(tokens.input_ids)[0].float()
    return embedded


def read_tokenizer(owner: str, folder: Path) -> Any:
    """The `tokenizer` of a pipeline's folder.

    Raises:
        ValueError: none that can be loaded, or no `transformers` installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"{owner}: prompts need the transformers package (pip install 'fibermodels[transformers]'), or `embeddings`"
        ) from error
    try:
        return transformers.AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{owner}: cannot load the tokenizer from '{folder / 'tokenizer'}': {error}") from error


def token_places(path: str, prompt: str, words: str) -> list[int]:
    """The places of some words in a prompt, as the pipeline's own tokenizer splits it: what `guidance.Attended` takes.

    Args:
        path: the pipeline's folder.
        prompt: the prompt, which starts at place 1 behind the sign of the start.
        words: a part of it; where it comes twice, the first counts.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: words that are not in the prompt, or no tokenizer.
    """
    tokenizer = read_tokenizer("token_places", local_folder("token_places", path))
    tokens, part = tokenizer(prompt).input_ids, tokenizer(words, add_special_tokens=False).input_ids
    for start in range(len(tokens) - len(part) + 1):
        if part and tokens[start : start + len(part)] == part:
            return list(range(start, start + len(part)))
    raise ValueError(f"token_places: words: expected a part of the prompt '{prompt}', got '{words}'")


def read_embeddings(owner: str, path: str) -> Tensor:
    """Embeddings `(2, L, D)` from a safetensors file with `prompt_embeds` and `negative_prompt_embeds`, each `(L, D)`
    or `(1, L, D)`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file.
    """
    try:
        found = load_file(locate(path))
    except SafetensorError as error:
        raise ValueError(f"{owner}: '{path}' is not a safetensors file ({error})") from error
    names = ("negative_prompt_embeds", "prompt_embeds")
    if any(name not in found for name in names):
        raise ValueError(f"{owner}: '{path}': expected the tensors {list(names)}, got {sorted(found)}")
    parts = [found[name].float() for name in names]
    parts = [part[0] if part.ndim == 3 and len(part) == 1 else part for part in parts]
    if parts[0].shape != parts[1].shape or parts[0].ndim != 2:
        raise ValueError(f"{owner}: '{path}': expected two (L, D), got {[tuple(part.shape) for part in parts]}")
    return torch.stack(parts)
