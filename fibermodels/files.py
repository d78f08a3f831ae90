"""Files that are never half written, and folders that one process holds at a time."""

import contextlib
import csv
import fcntl
import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

HOST = socket.gethostname().replace("-", "_")
"""Part of the name of an unfinished file, because processes of other machines may write into the same folder."""


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file under another name in the same folder and renames it, so that it is never half written.

    The folder is made if it is missing. If `write` fails, the earlier file stays as it is. The new file has the mode
    that the umask allows, and unfinished files of processes that were killed are removed.

    Args:
        path: the file.
        write: a function of the path to write to, which has the same ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}-{HOST}-*{path.suffix}"):
        if not _runs(left.name.removesuffix(path.suffix).rpartition("-")[2]):
            left.unlink(missing_ok=True)
    unfinished = path.with_name(f".{path.name}-{HOST}-{os.getpid()}{path.suffix}")
    try:
        write(unfinished)
        mask = os.umask(0)
        os.umask(mask)
        unfinished.chmod(0o666 & ~mask)
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(unfinished)):
            error.filename = str(path)  # the name that the user knows
        raise


def check_folder(folder: Path) -> None:
    """Checks that a folder can be made or written to, so that long work does not end there; it changes nothing.

    Raises:
        OSError: the folder cannot be made, because a file is in its place or above it, or nothing may be written there.
    """
    known = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not known.is_dir():
        raise NotADirectoryError(f"cannot make the folder '{folder}': '{known}' is a file")
    if not os.access(known, os.W_OK):
        raise PermissionError(f"cannot write into the folder '{known}'")


def check_new(file: Path, overwrite: bool) -> None:
    """Checks that a command may write a file: it is not there yet, or may be replaced, and its folder can be made.

    Raises:
        FileExistsError: it is there, and `overwrite` is not set.
        OSError: as in `check_folder`.
    """
    if file.exists() and not overwrite:
        raise FileExistsError(f"'{file}' exists: choose another --out, or give --overwrite true")
    check_folder(file.parent)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file."""
    replace_file(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a table: the names of its columns, and its rows, which may lack some."""

    def write(unfinished: Path) -> None:
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(rows)

    replace_file(path, write)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None) -> None:
    """Replaces a safetensors file, with a digest of its tensors and other text in its metadata."""
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {**(about or {}), DIGEST: _digest(content)}

    def write(file: Path) -> None:
        try:
            save_file(content, file, metadata)
        except SafetensorError as error:  # a full disk, among others
            raise OSError(f"cannot write '{path}': {error}") from error

    replace_file(path, write)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file of `save_tensors`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged.
    """
    try:
        content, about = open_tensors(path)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is damaged ({error}): remove it, and it is made again") from error
    if not intact(content, about):
        raise ValueError(f"'{path}' is damaged (its tensors do not have their digest): remove it, and it is made again")
    return content, about


def open_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of any safetensors file.

    Raises:
        FileNotFoundError, SafetensorError: no such file, or not such a file.
    """
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


DIGEST = "sha256"
"""The entry of the metadata with the digest of the tensors; files of earlier versions have none."""


def intact(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> bool:
    """Whether tensors have the digest in the metadata of their file, if it has one."""
    return about.get(DIGEST, "") in ("", _digest(tensors))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True


def claim(folder: Path) -> IO[str]:
    """Makes this process the only one that writes into a folder, until it ends or calls `release`.

    Raises:
        FileExistsError: another process holds the folder; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    lock = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise FileExistsError(f"'{folder}' is in use by {holder}: wait for it, or choose another folder") from error
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(lock.fileno())):
        lock.close()  # its former holder has just removed this file
        return claim(folder)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()
    return lock


def release(lock: IO[str]) -> None:
    """Gives back a folder that `claim` took, and removes it if nothing is in it."""
    path = Path(lock.name)
    path.unlink(missing_ok=True)
    lock.close()
    with contextlib.suppress(OSError):
        path.parent.rmdir()
