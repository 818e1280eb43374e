"""Makes the universal checkpoints beside this file, which `test_torch_universal.py` reads: real ones, of three steps in
two processes under ZeRO's stages 1 and 3, with the moments as DeepSpeed itself reads them.

    python -m venv other && other/bin/pip install torch==2.13.0 numpy==2.4.6
    DS_BUILD_OPS=0 other/bin/pip install --no-build-isolation deepspeed==0.19.8
    other/bin/python tests/adapters/foreign_dicts/make_deepspeed.py
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ |= {"DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29653"}
import deepspeed
import torch


class Net(torch.nn.Module):
    """With a buffer, and with parameters of one axis and of two in groups of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(5, 3), torch.nn.Linear(3, 2)
        self.register_buffer("factor", torch.full((3,), 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two((self.factor.to(x.dtype) * self.one(x)).relu())


def train(rank: int, stage: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.manual_seed(0)
    model = Net()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": True},
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(groups, lr=1e-2), config=config)
    torch.manual_seed(rank)
    for _ in range(3):
        engine.backward(engine(torch.randn(4, 5, dtype=torch.bfloat16)).square().mean())
        engine.step()
    engine.save_checkpoint(folder)
    torch.distributed.destroy_process_group()


def numbers(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The moments that DeepSpeed's converter has written, read as DeepSpeed reads them."""
    moments: dict[str, dict[str, torch.Tensor]] = {}
    for file in sorted(folder.glob("zero/*/exp_avg*.pt")):
        saved = torch.load(file, weights_only=False)
        moments.setdefault(file.parent.name, {})[file.stem] = saved["param"] if isinstance(saved, dict) else saved
    return moments


def main() -> None:
    for stage in (1, 3):
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(train, (stage, folder), nprocs=2)
            there = Path(folder, "universal")
            words = ["--input_folder", f"{folder}/global_step3", "--output_folder", str(there)]
            command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", *words, "--inject_missing_state"]
            subprocess.run(command, check=True)
            torch.save(numbers(there), Path(folder, "numbers.pt"))
            files = sorted(file for file in there.rglob("*") if file.is_file())
            named = Path(__file__).parent / f"deepspeed-stage{stage}.zip"
            with zipfile.ZipFile(named, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in (*files, Path(folder, "numbers.pt"), Path(folder, "latest_universal")):
                    archive.write(file, file.relative_to(folder))


if __name__ == "__main__":
    main()
