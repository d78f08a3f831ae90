"""The device on which a command draws samples."""

import torch


def accelerator() -> str:
    """The kind of accelerator of this machine, as training takes it; `cpu` without one."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found else "cpu"


def check_device(device: str) -> None:
    """Refuses a device that torch does not know, or that this machine does not have.

    Raises:
        ValueError: naming the device.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch has no type of its own for this
        raise ValueError(f"device: '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
