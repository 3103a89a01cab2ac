"""Who works at a training: processes that share its batches, and threads that draw the next ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def processes(accelerator: str, devices: int) -> Fabric:
    """A launched Fabric for `devices` processes of one machine, or for those that torchrun has started on one or more.

    Tried with several processes on CPUs, and with one GPU; on several GPUs the same code has not run yet.

    Args:
        accelerator: "cpu" (gloo between the processes), "cuda" (NCCL) or "mps".
        devices: processes on this machine, each with a device of its own; under torchrun what torchrun says counts.
    """
    from lightning_fabric import Fabric

    nodes = 1
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    strategy = "ddp" if devices * nodes > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    return fabric


class SharedLoss(nn.Module):
    """A network and the loss that is computed with it: the call of this module is what processes share."""

    def __init__(self, net: nn.Module, loss: Callable[..., Tensor], autocast: Callable[[], torch.autocast]):
        super().__init__()
        self.net, self._loss, self._autocast = net, loss, autocast

    def forward(self, *examples: Tensor) -> Tensor:
        with self._autocast():
            return self._loss(*examples)


class Prefetch:
    """rows(step) for one step after the other, those of the next `count` steps computed meanwhile by threads."""

    def __init__(self, rows: Callable[[int], tuple[Tensor, ...]], count: int):
        self.rows, self.count, self.pool, self.waiting = rows, count, None, {}

    def __enter__(self) -> Prefetch:
        self.pool = ThreadPoolExecutor(self.count) if self.count else None
        return self

    def __exit__(self, *_) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.waiting = None, {}

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        if not self.pool:
            return self.rows(step)
        for later in range(step, step + 1 + self.count):
            if later not in self.waiting:
                self.waiting[later] = self.pool.submit(self.rows, later)
        return self.waiting.pop(step).result()
