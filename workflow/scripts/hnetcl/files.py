"""Files that are either whole or absent: everything is written aside and renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; rename it to ``path`` when the block ends without an error.

    A reader, or a run that is killed half-way, sees the old file or the new one, never a part. What a kill leaves of
    the file aside is removed by `remove_leftovers`. An ``OSError`` of the block names ``path``: a full disk names none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_aside(path), suffix=path.suffix)
    os.close(descriptor)
    aside = Path(name)
    try:
        yield aside
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        with aside.open("rb") as handle:
            os.fsync(handle.fileno())
        aside.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove what killed runs left of ``path`` beside it; nobody may be writing it now."""
    path = Path(path)
    for part in path.parent.glob(f"{_aside(path)}*"):
        part.unlink(missing_ok=True)


def _aside(path: Path) -> str:
    """Return what the names of files that are to become ``path`` begin with."""
    return f".{path.name}."


def require_writable(folder: str | Path) -> None:
    """Raise ``PermissionError`` that names ``folder`` unless a file can be created in it (it is made if absent)."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(
            f"cannot write to the directory '{folder}': {error.strerror or error}. Allowed: an existing directory "
            "with write permission, or a path where one can be created."
        ) from error
