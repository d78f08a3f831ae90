"""`--tensorboard`: a result as TensorBoard shows it, its figures beside those of the training."""

from pathlib import Path

import numpy as np
from PIL import Image

from fibermodels.evaluation.results import EVENTS
from fibermodels.evaluation.rows import Row


def write_events(folder: str | Path, row: Row) -> Path:
    """Writes every number of a result as a scalar and every picture of its folder as an image, at the training's step.

    Args:
        folder: of the result.
        row: its metrics; empty for a comparison.

    Returns:
        The folder of the events, which replace those of an earlier result.
    """
    from torch.utils.tensorboard import SummaryWriter

    out = Path(folder) / EVENTS
    earlier = list(out.glob("events.out.tfevents.*"))
    step = row.get("training_steps")
    step = step if isinstance(step, int) else 0
    with SummaryWriter(str(out)) as writer:
        for name, value in row.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                writer.add_scalar(f"result/{name}", value, step)
        for path in sorted(Path(folder).glob("*.png")):
            pixels = np.asarray(Image.open(path).convert("RGB"))
            writer.add_image(f"result/{path.stem}", pixels, step, dataformats="HWC")
    for path in earlier:
        path.unlink()
    return out
