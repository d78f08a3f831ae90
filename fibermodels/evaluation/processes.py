"""Processes that share the batches of an evaluation: one for each GPU, or several on the cores of a CPU.

Each process builds model and data itself and stores its batches in the evaluation's folder (`drawing.Partial`), from
which the first process collects them. There is no other communication.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Thread

import torch
from torch import multiprocessing

Work = Callable[[int], None]
"""The work of the process with a given rank. It is pickled, so it is a module's function or a `partial` of one."""


def device_of(device: str, rank: int) -> str:
    """The device of the process with a given rank: processes get different GPUs if there are enough."""
    if device != "cuda" or not torch.cuda.is_available():
        return device
    return f"cuda:{rank % torch.cuda.device_count()}"


@contextmanager
def helped(work: Work, processes: int) -> Iterator[None]:
    """Runs `work(rank)` in processes of ranks 1 to `processes - 1` while the body runs as rank 0.

    The context ends when all processes are done. If a process fails, a warning is issued, and the caller must do its
    remaining work. An error in the body, including Ctrl-C, ends the processes.
    """
    threads = torch.get_num_threads()
    own = max(1, threads // processes)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_run, args=(work, rank, own), daemon=True) for rank in range(1, processes)]
    torch.set_num_threads(own)
    try:
        for process in others:
            process.start()
        yield
        for rank, process in enumerate(others, 1):
            process.join()
            if process.exitcode:
                warnings.warn(
                    f"process {rank} ended with status {process.exitcode}; its work is done here", stacklevel=3
                )
    finally:
        for process in others:
            if process.is_alive():
                process.terminate()
        torch.set_num_threads(threads)


def _run(work: Work, rank: int, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process, which ends this one
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        work(rank)
    except (ValueError, FileNotFoundError) as error:
        print(f"process {rank}: {error}", file=sys.stderr)
        sys.exit(2)


def _end_with_parent() -> None:
    """Ends this process when the first one is gone, even if that was killed and could not say so."""
    first = parent_process()
    if first is not None:
        first.join()
        os._exit(1)
