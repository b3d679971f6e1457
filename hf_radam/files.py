"""Files that are written whole or not at all, and errors in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file under another name; it becomes `path` if the block succeeds, and is deleted if it fails.

    So no reader sees half of a file, even after a kill. Missing folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes, whole or not at all."""
    with whole(path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


def one_line(text: BaseException | str) -> str:
    """A text or a message on one line, with single spaces; the type of an error that has no message."""
    return " ".join(str(text).split()) or ("" if isinstance(text, str) else type(text).__name__)


def printable(text: str) -> str:
    """Foreign text, safe for a terminal: invisible characters become escapes, such as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty, shortened."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return next((printable(one_line(line))[:300] for line in reversed(lines) if line.strip()), "it printed nothing")


def is_full_disk(error: BaseException) -> bool:
    """Whether a write failed because there was no room: disk full, quota, or file size limit."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    # Python, safetensors and tokenizers quote the system's number; torch.save quotes nothing.
    quoted = [text for number in _FULL for text in (f"[Errno {number}]", f"(os error {number})")]
    return any(part in str(error) for part in (*quoted, "PytorchStreamWriter", "unexpected pos", "basic_ios::clear"))
