"""Self-attention with rotary positions, and the fused kernel that computes it."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Linear, at_least_float32

HEAD_MULTIPLE = 8  # what a GPU's fused attention asks of the width of a head


class Attention(nn.Module):
    """Self-attention [M, L, D] -> [M, L, D] with rotary positions."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads, self.size = heads, dim // heads
        self.qkv = Linear(dim, 3 * dim)
        self.out = Linear(dim, dim)
        self.attend = fused_attention

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.qkv(h).unflatten(-1, (3, self.heads, -1))  #                    [M, L, 3, heads, d]
        q, k = rotate(qkv[:, :, :2], self.size).permute(2, 0, 3, 1, 4)  #         [M, heads, L, d]
        v = qkv[:, :, 2].transpose(1, 2)
        if v.requires_grad:  # a copy, so that what is not rotated need not be kept
            v = v.clone(memory_format=torch.contiguous_format)
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))

    def prepare(self, dtype: torch.dtype, multiple: int) -> None:
        """Prepare the weights in `dtype` with zeros that make each head's width a multiple of this."""
        pad, per_head = -self.size % multiple, (self.heads, self.size)
        if not pad:
            return
        # Attention divides by the root of the width that it sees: q makes up for what the zeros add to it.
        gain = self.qkv.weight.new_tensor([math.sqrt(1 + pad / self.size), 1, 1])
        weight = gain[:, None, None, None] * self.qkv.weight.unflatten(0, (3, *per_head))
        bias = gain[:, None, None] * self.qkv.bias.unflatten(0, (3, *per_head))
        self.qkv.prepare(F.pad(weight, (0, 0, 0, pad)).flatten(0, 2), F.pad(bias, (0, pad)).flatten(), dtype)
        self.out.prepare(F.pad(self.out.weight.unflatten(1, per_head), (0, pad)).flatten(1), self.out.bias, dtype)


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v by the fused kernel; on a GPU a head size that it cannot take is padded with zeros."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad:  # whose kernel for gradients is slow
        with torch.autocast("cpu", enabled=False):
            return fused_attention(q.float(), k.float(), v.float()).to(q.dtype)
    d = q.shape[-1]
    pad = -d % HEAD_MULTIPLE if q.is_cuda else 0
    if pad:
        q, k, v = (F.pad(a, (0, pad)) for a in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=d**-0.5)[..., :d]


def rotate(q: Tensor, size: int | None = None) -> Tensor:
    """Rotary positions: turn each adjacent pair (2i, 2i+1) of [M, L, ..., d] by the angle position 10000^(-2i/size).

    `size` is d, or less where the last channels are nothing but zeros.
    """
    shape, size = tuple(q.shape[1:]), size or q.shape[-1]
    if torch.compiler.is_compiling():  # which knows no complex numbers
        return _turn_by_real(q, *constant_factors(shape, size, q.device, q.dtype))
    if q.dtype in (torch.float16, torch.bfloat16):  # which have none that would not be wider
        return _turn_by_real(q, *_real_factors(shape, size, q.device, q.dtype))
    return turn_pairs(q, torch.view_as_complex(_rotary_table(shape, size, q.device)))


def turn_pairs(q: Tensor, turn: Tensor) -> Tensor:
    """Multiply each adjacent pair of [..., d], as a complex number, by `turn`, broadcastable to [..., d / 2]."""
    wide = at_least_float32(q).unflatten(-1, (-1, 2))
    turned = torch.view_as_real(torch.view_as_complex(wide) * turn.to(wide.dtype.to_complex()))
    return turned.flatten(-2).to(q.dtype)


def _turn_by_real(q: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin) for each pair, in the type of q."""
    other = q.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(q * cosine, other, sine)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a later call may want gradients
def _rotary_table(shape: tuple[int, ...], size: int, device: torch.device) -> Tensor:
    """Cosine and sine for each position and pair of [L, ..., d], [L, ..., d / 2, 2]: whole, as kernels are slow at
    short rows.
    """
    length, *between, d = shape
    rate = 10000.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / size)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
    table = torch.stack([angle.cos(), angle.sin()], -1).to(torch.float32).to(device)
    return table.view(length, *(1 for _ in between), -1, 2).expand(length, *between, -1, -1).contiguous()


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _real_factors(shape: tuple[int, ...], size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Factors of each channel of [L, ..., d] and of its neighbour in the pair: (cos, cos) and (-sin, sin)."""
    cosine, sine = _rotary_table(shape, size, device).to(dtype).unbind(-1)
    return torch.stack([cosine, cosine], -1).flatten(-2), torch.stack([-sine, sine], -1).flatten(-2)


def constant_factors(*arguments) -> tuple[Tensor, Tensor]:
    """`_real_factors` by a plain function, whose result `compiled` makes a constant of what is compiled. Of a function
    that `lru_cache` has wrapped the compiler sees what is inside, and would compute the factors in each call.
    """
    return _real_factors(*arguments)
