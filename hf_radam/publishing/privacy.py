"""What must never be uploaded: tokens and keys, names of users and hosts, paths of this machine, pickles."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_radam.experiments.schema import UserError
from hf_radam.publishing.folder import files_below

# Tokens and keys by their beginnings. Glued to a letter, they are told from words by a digit and a capital.
_TOKEN = re.compile(
    rb"((?<![A-Za-z0-9])|(?=[\w-]{0,60}\d)(?=[\w-]{0,60}[A-Z]))"
    rb"(hf_(oauth_[\w.-]{20}|[A-Za-z0-9]{20})|gh[opsu]_[A-Za-z0-9]{30}|github_pat_\w{22}|glpat-[\w-]{20}"
    rb"|sk-(proj|ant|svcacct|admin)-[\w-]{20}|sk-[A-Za-z0-9]{32}|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{30}|xox[abeprs]-[\w-]{10})"
    rb"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY"
)
# Each token has one of these, which are found a hundred times faster.
_BEGINNINGS = (
    b"hf_", b"gho_", b"ghp_", b"ghs_", b"ghu_", b"github_pat_", b"glpat-", b"sk-", b"AKIA", b"ASIA", b"AIza", b"xox",
    b"-----BEGIN ",
)  # fmt: skip
_LONGEST_BEGINNING = 100
_SECRET_VARIABLE = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|PRIVATE_KEY|SECRET_KEY)$", re.IGNORECASE
)
# What no reader sees: soft hyphens, zero-width characters, marks of direction.
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_ROOTS = (
    rb"(home|Users|root|tmp|mnt|media|var|opt|srv|data|scratch|work|workspace|private|gpfs|lustre|fsx|nfs|storage"
    rb"|export|projects?|content|kaggle|etc|run|proc|u|Volumes|usr/lib)\d*|dev/shm|usr/local"
)
# Absolute paths below the usual roots, a home folder's "~/", drives and shares of Windows; not the path of a URL. A
# share begins with two backslashes, or in JSON with four.
_PATH = re.compile(
    rb"((?<![\w./\\~-])|(?<=file://))/(" + _ROOTS + rb")/\.?\w"
    rb"|(?<![\w./:~-])~/\w"
    rb"|(?<![A-Za-z0-9])[A-Za-z]:(\\{1,2}|/)[A-Za-z0-9]"
    rb"|(?<![\\\w])(\\{4}[\w.-]+\\{2}|\\{2}[\w.-]+\\)\w"
)
_PICKLE_ENDINGS = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_TEXT_ENDINGS = frozenset({".json", ".jsonl", ".csv", ".md", ".html", ".yaml", ".yml", ".txt", ".svg", ".jinja"})
# A vocabulary is made of words: any name or path may be among them by right.
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"})
# Their strings are programs, in which a backslash and an n stand for the end of a line.
_TEMPLATES = frozenset({"tokenizer_config.json", "chat_template.json", "chat_template.jinja"})
# Names that say nothing about anybody.
_COMMON_NAMES = frozenset({"root", "user", "users", "admin", "ubuntu", "debian", "runner", "nobody", "localhost"})
# Large files are read in parts that overlap by more than the longest token or path.
_PART, _OVERLAP = 2**24, 2**12


def refuse_leaks(folder: Path, *, public: Sequence[str] = ()) -> None:
    """Look through everything that is to be uploaded.

    Args:
        folder: every file below it is read.
        public: words, names and paths that may stand there though they look private, such as the repo's id.

    Raises:
        UserError: naming the first file with a leak, and what it is; never the secret itself.
    """
    names, secrets = _names(public), _secrets()
    for relative, path in files_below(folder).items():
        if _has_secret(relative.encode(errors="surrogateescape"), secrets):
            raise UserError(f"nothing was uploaded: the name of a file in {folder} holds an access token; rename it")
        for leak in _leaks(path, names, secrets, public):
            raise UserError(f"nothing was uploaded: {path} holds {leak}")
        for leak in _names_in(relative, names, public):
            raise UserError(f"nothing was uploaded: the file name {path} holds {leak}")


def is_pickle(path: Path) -> bool:
    """Whether loading the file could run code."""
    if path.suffix in _PICKLE_ENDINGS:
        return True
    with path.open("rb") as file:
        start = file.read(2)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return path.suffix != ".safetensors"  # these begin with a length, which may be any number
    return zipfile.is_zipfile(path) and any(name.endswith(".pkl") for name in zipfile.ZipFile(path).namelist())


def _leaks(
    path: Path, names: Sequence[tuple[str, str]], secrets: Sequence[bytes], public: Sequence[str]
) -> Iterator[str]:
    if is_pickle(path):
        yield "a pickle, which runs code when it is loaded; remove it from the run's model folder"
    is_vocabulary, text = path.name in _VOCABULARIES or path.suffix in (".spm", ".model"), _text(path)
    for part in _parts(path) if text is None or path.suffix == ".safetensors" else [text, _unescaped(text, path)]:
        # Text in two or four bytes a character has zeros between its letters.
        for content in (part, part.replace(b"\0", b"")):
            if _has_secret(content, secrets):
                yield "an access token or a key; remove it there, and revoke it on its site"
            if not is_vocabulary and _has_place(content, public):
                yield "a path of this machine; replace it by a relative one"
    if text is None or is_vocabulary:
        return
    shown = _without(_unescaped(text, path), public)
    if found := _PATH.search(shown):
        line = shown.count(b"\n", 0, found.start()) + 1
        yield (
            f"an absolute path in line {line}; replace it by a relative one, or give --allow and the text if it is none"
        )
    yield from _names_in(shown.decode("utf-8", errors="replace"), names, public)


def _has_secret(content: bytes, secrets: Sequence[bytes]) -> bool:
    if any(secret in content for secret in secrets):
        return True
    for beginning in _BEGINNINGS:
        start = content.find(beginning)
        while start >= 0:
            if _TOKEN.search(content[max(0, start - 1) : start + _LONGEST_BEGINNING]):
                return True
            start = content.find(beginning, start + 1)
    return False


def _has_place(content: bytes, public: Sequence[str]) -> bool:
    """Whether the content names the home or the working folder."""
    return any(
        re.search(rb"(?<![\w.~-])" + re.escape(place) + rb"(?![\w-])", _without(content, public))
        for place in _places()
        if place in content
    )


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        part = file.read(_PART)
        while part:
            yield part
            following = file.read(_PART)
            part = part[-_OVERLAP:] + following if following else b""


def _text(path: Path) -> bytes | None:
    """What people can read in a file, in UTF-8: all of it, or the header of weights; None if nothing."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if length < path.stat().st_size else b""
        return _visible(header.decode(errors="replace"))
    if path.suffix not in _TEXT_ENDINGS and path.stat().st_size > _PART:
        return None
    content = path.read_bytes()
    encoding = _encoding(content)
    if path.suffix not in _TEXT_ENDINGS and encoding == "utf-8" and b"\0" in content[: 2**13]:
        return None
    try:
        return _visible(content.decode(encoding))
    except UnicodeDecodeError:
        return _visible(content.decode("latin-1")) if path.suffix in _TEXT_ENDINGS else None


def _encoding(content: bytes) -> str:
    """UTF-16 where its mark stands in front, or every second byte of most is zero; else UTF-8."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = content[: 2**13]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if 2 * start[offset::2].count(0) > len(start[offset::2]) and 0 not in start[1 - offset :: 2]:
            return name
    return "utf-8"


def _visible(text: str) -> bytes:
    return _INVISIBLE.sub("", text).encode(errors="replace")


def _unescaped(content: bytes, path: Path) -> bytes:
    """The content as readers see it: escaped characters as themselves, and a space for escaped white space."""
    if path.name in _TEMPLATES:
        content = re.sub(rb"\\+[nrt]", b" ", content)
    elif path.suffix in (".json", ".jsonl", ".safetensors"):
        content = re.sub(rb"(?<!\\)\\[nrt]", b" ", content)
    if path.suffix in (".json", ".jsonl"):
        content = re.sub(rb"(?<!\\)\\u([0-9a-fA-F]{4})", lambda code: _visible(chr(int(code[1], 16))), content)
    return content.replace(rb"\/", b"/")


def _names_in(text: str, names: Sequence[tuple[str, str]], public: Sequence[str]) -> Iterator[str]:
    text = _without(text.encode(), public).decode()
    for kind, name in names:
        if re.search(rf"(?<![^\W_])(?<!-){re.escape(name)}(?!-)(?![^\W_])", text, re.IGNORECASE):
            yield f"{name!r}, the name of this {kind}; remove it, or give --allow {name} if it means something else"


def _without(content: bytes, public: Sequence[str]) -> bytes:
    for word in filter(None, public):
        content = re.sub(re.escape(word).encode(), b" ", content, flags=re.IGNORECASE)
    return content


def _places() -> list[bytes]:
    """The home and the working folder, where they are long enough to be told from other text."""
    found = {place for place in (Path.home(), Path.cwd()) if len(place.parts) > 2 or len(str(place)) >= 8}
    return [os.fsencode(place) for place in found]


def _names(public: Sequence[str]) -> list[tuple[str, str]]:
    """The user's and the host's names, as far as they tell who and where."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = ""
    names = [("user", user), ("host", host), ("host", host.partition(".")[0])]
    known = {*_COMMON_NAMES, *(word.lower() for word in public)}
    return [(kind, name) for kind, name in names if len(name) > 3 and name.lower() not in known]


def _secrets() -> list[bytes]:
    """Values of this process's environment variables that are named like secrets, as they are and as JSON has them."""
    values = [v for k, v in os.environ.items() if _SECRET_VARIABLE.search(k) and len(v) >= 8]
    return list(dict.fromkeys(os.fsencode(form) for v in values for form in (v, json.dumps(v)[1:-1])))
