"""A network's core, compiled."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

from .. import _machine
from ..precision import missing_compiler
from .attention import constant_factors

Core = Callable[[Tensor, Tensor, Tensor], Tensor]
"""core(h, time, label), of any batch."""


def compiled(core: Core, device: torch.device, backend: str = "inductor") -> Core:
    """A core that compiles itself at its first call for a length, and once more for a batch of one.

    Raises:
        RuntimeError: a compiler is missing; the message says which.
    """
    if backend == "inductor":
        if missing := missing_compiler(device):
            raise RuntimeError(f"compiling the network needs {missing}, or leave compiling out")
        # This and the limit below are settings of the process, and stay: they are read whenever a call compiles.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_machine.cache("inductor")))
    torch.compiler.assume_constant_result(constant_factors)  # as a decorator it would load the compiler at import
    settings = torch._dynamo.config  # by default torch gives up after eight shapes
    settings.recompile_limit = max(settings.recompile_limit, settings.accumulated_recompile_limit)
    options = {"backend": backend, "fullgraph": True, "dynamic": False}
    any_batch = torch.compile(core, **options)
    replayed = torch.compile(core, **options, mode="reduce-overhead") if backend == "inductor" else any_batch

    def call(h: Tensor, time: Tensor, label: Tensor) -> Tensor:
        # One or two signals keep a GPU waiting for launches; a CUDA graph launches all kernels at once.
        if h.is_cuda and len(h) <= 2 and not torch.is_grad_enabled():
            return replayed(h, time, label)
        for argument in (h, time, label):
            torch._dynamo.maybe_mark_dynamic(argument, 0)
        return any_batch(h, time, label)

    return call
