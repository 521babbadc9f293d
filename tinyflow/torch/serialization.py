"""save and load: nested dicts, lists and tuples of tensors and plain values. Never by pickle: loading runs no code.

file := npz of the tensors as 0.npy, 1.npy ... and tree.json, which says where they stand
      | safetensors, for a flat dict of tensors under a name that ends in .safetensors
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

from tinyflow.core.dtypes import as_dtype
from tinyflow.torch.creation import from_array
from tinyflow.torch.nn.module import Module
from tinyflow.torch.tensor import Tensor, dtype_of

SAFE = {
    "float32": "F32",
    "float64": "F64",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
    "bfloat16": "BF16",
    "float16": "F16",
}
FROM_SAFE = {v: k for k, v in SAFE.items()}
PLAIN = (str, int, float, bool, type(None))


def save(obj: Any, f: Any) -> None:
    """Writes an object to a path or a file; a path is written whole or not at all."""
    if isinstance(obj, Module):
        raise TypeError(
            "save(module): modules are Python objects, and loading one would run code; save module.state_dict() instead"
        )
    if isinstance(f, str | os.PathLike):
        path = os.fspath(f)
        write = write_safetensors if path.endswith(".safetensors") else write_npz
        with open(path + ".part", "wb") as file:
            write(obj, file)
        os.replace(path + ".part", path)
    else:
        write_npz(obj, f)


def array_of(t: Tensor) -> np.ndarray:
    return np.ascontiguousarray(t.detach()._array())


def write_npz(obj: Any, file: Any) -> None:
    arrays: list[np.ndarray] = []
    tree = json.dumps(written(obj, arrays))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as z:
        z.writestr("tree.json", tree)
        for i, a in enumerate(arrays):
            with z.open(f"{i}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, a, allow_pickle=False)


def written(obj: Any, arrays: list[np.ndarray]) -> Any:
    """The object as JSON; tensors go to `arrays`, and their number stands in their place."""
    if isinstance(obj, Tensor):
        arrays.append(array_of(obj).reshape(obj._shape))
        return {"tensor": len(arrays) - 1}
    if isinstance(obj, dict):
        return {
            "dict": [[written(k, arrays), written(v, arrays)] for k, v in obj.items()],
            "ordered": isinstance(obj, OrderedDict),
        }
    if isinstance(obj, list | tuple):
        return {"tuple" if isinstance(obj, tuple) else "list": [written(x, arrays) for x in obj]}
    if isinstance(obj, np.ndarray | np.generic):
        return written(from_array(np.array(obj)), arrays) if isinstance(obj, np.ndarray) else obj.item()
    if type(obj) in PLAIN:
        return obj
    raise TypeError(f"save: {type(obj).__name__} is neither a tensor nor a dict, list, tuple, number or string of them")


def write_safetensors(obj: Any, file: Any) -> None:
    if not isinstance(obj, dict) or not all(isinstance(v, Tensor) for v in obj.values()):
        raise TypeError(
            "save to .safetensors takes a flat dict of tensors, such as a state_dict; use another ending for nested data"
        )
    header, at = {}, 0
    for name, t in obj.items():
        size = t.nbytes
        header[name] = {"dtype": SAFE[dtype_of(t).name], "shape": list(t._shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for t in obj.values():
        file.write(array_of(t).tobytes())


# ------------------------------------------------------------------------------------------ loading


def load(f: Any, map_location: Any = None, *, weights_only: bool = True, **_: Any) -> Any:
    """Reads what save wrote, or a safetensors file."""
    if isinstance(f, str | os.PathLike):
        with open(f, "rb") as file:
            return read(file, os.fspath(f))
    return read(f, getattr(f, "name", "the file"))


def read(file: Any, name: str) -> Any:
    start = file.read(9)
    file.seek(0)
    if start[:4] == b"PK\x03\x04":
        return read_npz(file, name)
    if start[8:9] == b"{":
        return read_safetensors(file.read(), name)
    raise ValueError(f"{name} is neither what save wrote nor safetensors (it begins with {start[:4]!r}); pickled files are not loaded, as loading them runs code")  # fmt: skip


def read_npz(file: Any, name: str) -> Any:
    try:
        with zipfile.ZipFile(file) as z:
            names = set(z.namelist())
            if "tree.json" not in names:
                if any(n.endswith(".pkl") for n in names):
                    raise ValueError(
                        "it is a pickled checkpoint of PyTorch, and loading it would run code; convert it to safetensors first"
                    )
                keys = [n[:-4] for n in names if n.endswith(".npy")]
                return {k: from_array(npy(z, k, name)) for k in keys}
            tree = json.loads(z.read("tree.json"))
            return restored(tree, z, name)
    except (zipfile.BadZipFile, KeyError, IndexError, TypeError, ValueError) as e:
        raise ValueError(f"{name} cannot be loaded: {e}") from None


def npy(z: zipfile.ZipFile, key: str, name: str) -> np.ndarray:
    with z.open(f"{key}.npy") as part:
        a = np.lib.format.read_array(part, allow_pickle=False)
        return np.ascontiguousarray(a).reshape(a.shape)


def restored(tree: Any, z: zipfile.ZipFile, name: str) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        a = npy(z, str(int(tree["tensor"])), name)
        return from_array(a)
    if "dict" in tree:
        items = [(restored(k, z, name), restored(v, z, name)) for k, v in tree["dict"]]
        return OrderedDict(items) if tree.get("ordered") else dict(items)
    if "list" in tree:
        return [restored(x, z, name) for x in tree["list"]]
    return tuple(restored(x, z, name) for x in tree["tuple"])


def read_safetensors(data: bytes, name: str) -> dict[str, Tensor]:
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
        body = memoryview(data)[8 + size :]
        out = {}
        for key, entry in header.items():
            if key == "__metadata__":
                continue
            if entry["dtype"] not in FROM_SAFE:
                raise ValueError(f"{key} is of type {entry['dtype']}; tinyflow computes with {', '.join(FROM_SAFE)}")
            start, stop = entry["data_offsets"]
            flat = np.frombuffer(body[start:stop], as_dtype(FROM_SAFE[entry["dtype"]]).numpy)
            out[key] = from_array(flat.reshape(entry["shape"]).copy())
        return out
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ValueError(f"{name} is a damaged safetensors file: {e}") from None
