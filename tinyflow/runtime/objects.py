"""Object code on disk: one file a module, named by the sha256 of all that its content depends on.

    entry := MAGIC  sha256(key, body)  body
    body  := names of the functions, separated by spaces  "\\n"  object code

A file that is damaged, cut short or someone else's does not have its checksum: it counts as absent and is written
again. Writing is atomic, and never fails: without a place to write, nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tinyflow.core.config import config

MAGIC = b"tinyflow object 1\n"
DIGEST = hashlib.sha256().digest_size


class Object(NamedTuple):
    """Machine code of a module, and the functions it defines."""

    names: tuple[str, ...]
    code: bytes


def key_of(*parts: str) -> str:
    """A name for what is made of these texts."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def load(key: str) -> Object | None:
    """The entry of that key, if there is a sound one."""
    path = path_of(key)
    if path is None:
        return None
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    found = unpack(key, entry)
    if found is None:
        log(f"cache entry {path} is damaged: compiling it again")
    return found


def store(key: str, made: Object) -> None:
    """Write the entry in one step: other processes see the whole of it or nothing."""
    path = path_of(key)
    if path is None:
        return
    write(path, pack(key, made))


def write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content)
    except OSError as error:
        log(f"cannot keep {path}: {error}")


def replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def pack(key: str, made: Object) -> bytes:
    body = " ".join(made.names).encode() + b"\n" + made.code
    return MAGIC + checksum(key, body) + body


def unpack(key: str, entry: bytes) -> Object | None:
    start = len(MAGIC) + DIGEST
    body = entry[start:]
    if entry[:start] != MAGIC + checksum(key, body):
        return None
    names, _, code = body.partition(b"\n")
    return Object(tuple(names.decode().split()), code)


def checksum(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode() + body).digest()


def path_of(key: str, kind: str = "kernels") -> Path | None:
    """Where the entry lies; None when the flag CACHE says to keep nothing."""
    folder = str(config.CACHE)
    return None if folder in ("", "0") else Path(folder) / kind / key


def log(text: str) -> None:
    if config.DEBUG >= 1:
        print(f"tinyflow: {text}", file=sys.stderr)
