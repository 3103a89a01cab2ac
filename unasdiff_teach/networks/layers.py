"""Layers that the triple-path network is made of: products with prepared weights, norm, gate, embedding of time,
patches.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SINUSOIDS = 128  # of a time embedding


class Prepared:
    """Weights of a layer that may have a second form beside their parameters: see `TriplePathUNet.for_inference`."""

    prepared: tuple[Tensor, Tensor | None] | None = None

    def prepare(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.prepared = tuple(None if a is None else a.detach().to(dtype) for a in (weight, bias))

    @property
    def weights(self) -> tuple[Tensor, Tensor | None]:
        if self.prepared is not None and not self.weight.requires_grad:
            kind = self.weight.device.type
            asked = torch.get_autocast_dtype(kind) if is_autocasting(kind) else self.weight.dtype
            if self.prepared[0].dtype == asked:
                return self.prepared
        return self.weight, self.bias


class Linear(Prepared, nn.Linear):
    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, *self.weights)


class Conv2d(Prepared, nn.Conv2d):
    def forward(self, h: Tensor) -> Tensor:
        return self._conv_forward(h, *self.weights)


class FeedForward(nn.Module):
    """SwiGLU layer (Shazeer 2020) of twice the width."""

    def __init__(self, dim: int):
        super().__init__()
        self.enter = Linear(dim, 4 * dim)
        self.leave = Linear(2 * dim, dim)

    def forward(self, h: Tensor) -> Tensor:
        return self.leave(swiglu(self.enter(h)))


class TimeEmbedding(nn.Module):
    """Sinusoids of the scaled time through a two-layer perceptron, [B] -> [B, dim]."""

    def __init__(self, dim: int):
        super().__init__()
        frequencies = torch.exp(torch.arange(SINUSOIDS) * (-math.log(10000) / SINUSOIDS))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.enter = Linear(2 * SINUSOIDS, dim)
        self.leave = Linear(dim, dim)

    def forward(self, time: Tensor) -> Tensor:
        angle = time[:, None].to(self.frequencies.dtype) * self.frequencies
        return self.leave(F.silu(self.enter(torch.cat([angle.cos(), angle.sin()], -1))))


def swiglu(h: Tensor) -> Tensor:
    return SwiGLU.apply(h) if torch.is_grad_enabled() and h.requires_grad else SwiGLU.forward(h)


class SwiGLU(torch.autograd.Function):
    """value * silu(gate) of [..., 2 C] -> [..., C], keeping its input alone for the backward pass."""

    @staticmethod
    def forward(h: Tensor) -> Tensor:
        value, gate = h.chunk(2, -1)
        return value * F.silu(gate)  # not in place: compiled, that loses the gradient

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        value, gate = h.chunk(2, -1)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():  # the kernel has no second derivative
            sigma = gate.sigmoid()
            return torch.cat([gradient * gate * sigma, gradient * value * sigma * (1 + gate * (1 - sigma))], -1)
        through = torch.empty_like(h)
        through_value, through_gate = through.chunk(2, -1)
        torch.mul(gradient, F.silu(gate), out=through_value)
        torch.mul(gradient, value, out=through_gate)
        torch.ops.aten.silu_backward.grad_input(through_gate, gate, grad_input=through_gate)
        return through


def norm(h: Tensor) -> Tensor:
    """Layer norm in the type of h; its sums are in float32 all the same."""
    # The CPU's kernel is vectorised only where it is given factors and shifts.
    factors = (
        _one_and_zero(h.shape[-1], h.dtype)
        if h.device.type == "cpu" and not torch.compiler.is_compiling()
        else (None, None)
    )
    kind = h.device.type
    # autocast would make it float32 on a GPU
    with torch.autocast(kind, enabled=False) if is_autocasting(kind) else nullcontext():
        return F.layer_norm(h, h.shape[-1:], *factors, eps=1e-6)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _one_and_zero(dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.ones(dim, dtype=dtype, device="cpu"), torch.zeros(dim, dtype=dtype, device="cpu")


def modulate(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, h, 1 + scale)


def is_autocasting(kind: str) -> bool:
    """Whether autocast is on for a type of device; the meta device, where costs are counted, knows none."""
    return kind != "meta" and torch.is_autocast_enabled(kind)


def at_least_float32(h: Tensor) -> Tensor:
    return h.float() if h.dtype in (torch.float16, torch.bfloat16) else h


def fold_patches(h: Tensor, patch: tuple[int, int]) -> Tensor:
    """Patches into channels, [B, C, H, W] -> [B, C p q, H / p, W / q] for patch = (p, q)."""
    if patch == (1, 1):
        return h
    p, q = patch
    return h.unflatten(3, (-1, q)).unflatten(2, (-1, p)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def unfold_patches(h: Tensor, patch: tuple[int, int]) -> Tensor:
    """The inverse of `fold_patches`."""
    if patch == (1, 1):
        return h
    return h.unflatten(1, (-1, *patch)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
