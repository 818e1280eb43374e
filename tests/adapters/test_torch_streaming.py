"""Files that are written one tensor at a time are files of torch's: what `torch.save` would have written is read."""

from __future__ import annotations

import errno
import gc
import os
import weakref
import zipfile
from pathlib import Path

import pytest
import torch

from scirs2_adapters.adapters.torch.files.streaming import Later, save

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8, torch.int8, torch.int64)
SHAPES = ((), (0,), (3,), (2, 3), (2, 0, 3), (2, 3, 4))


def tree() -> dict[str, object]:
    tensors = [
        torch.arange(24).to(dtype)[: torch.Size(shape).numel()].reshape(shape) for dtype in DTYPES for shape in SHAPES
    ]
    plain = {"lr": 1e-3, "betas": (0.9, 0.999), "names": ["a", "b"], "none": None, 3: True}
    return {"tensors": tensors, "group": plain, "part": torch.arange(12.0).reshape(3, 4).T[1:]}


def alike(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_what_was_written(mmap: bool, tmp_path: Path) -> None:
    save(tree(), tmp_path / "größe.pt")
    read = torch.load(tmp_path / "größe.pt", weights_only=True, mmap=mmap)
    assert alike(read, tree())
    assert read["tensors"][3].is_contiguous()
    with zipfile.ZipFile(tmp_path / "größe.pt") as archive:
        assert archive.testzip() is None
    places = [x.untyped_storage().data_ptr() for x in read["tensors"]] if mmap else [0]
    assert {place % 64 for place in places} == {0}


def test_a_full_disk_is_said_to_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile._ZipWriteFile, "write", full)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space left"):
        save(tree(), tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_tensor_is_there_while_the_next_one_is_read(tmp_path: Path) -> None:
    alive: list[weakref.ref[torch.UntypedStorage]] = []

    def read() -> torch.Tensor:
        gc.collect()
        assert not [ref for ref in alive if ref() is not None]
        made = torch.ones(5)
        alive.append(weakref.ref(made))
        return made

    told: list[int] = []
    save([Later(torch.float32, (5,), read) for _ in range(4)], tmp_path / "x.pt", told.append)
    assert told == [20] * 4
    assert len(alive) == 4
    assert alike(torch.load(tmp_path / "x.pt", weights_only=True), [torch.ones(5)] * 4)


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"must give torch\.float32 of shape"):
        save([Later(torch.float32, (3,), lambda: torch.ones(2))], tmp_path / "x.pt")
    assert torch.load(tmp_path / "x.pt", weights_only=True) == [1]
    assert [x.name for x in tmp_path.iterdir()] == ["x.pt"]
