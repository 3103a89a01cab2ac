"""In which precision the networks of a job compute, and how fast that may be."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from .. import precision
from ..cost import peak_matmul_flops, usual_mfu
from ..precision import AUTO, PRECISIONS, canonical
from .choice import CHOICES
from .job import Job, begun_in, device_of, ranks
from .systems import Systems, guided, setting


def choose_precision(job: Job, systems: Systems, sizes: Mapping[str, int]) -> tuple[str, list[str]]:
    """The precision of the run and, where it was chosen here, a line that says why."""
    asked, device = canonical(job.precision, auto=True), device_of(job, 0)
    networks = [prior for prior in systems.priors.values() if isinstance(prior, nn.Module)]
    if asked != AUTO:
        precision.check(asked, device)
        return asked, []
    if not networks:
        return "float32", []
    if before := begun_in(job):
        return before, [f"precision: {before}, as the folder has begun"]
    if ranks()[1] > 1:  # each process measures something else, and all must agree
        chosen = "bfloat16" if job.device.startswith("cuda") else "float32"
        return chosen, [f"precision: {chosen}, the usual choice for {job.device}; several processes do not measure"]
    (mixture,) = job.load(next(iter(sizes)), 0, next(iter(sizes.values())))
    configs = [
        setting(name, job.preset, job.own).config for name in job.methods if job.samples(name) and name not in CHOICES
    ]
    gradients = any(map(guided, configs))
    prior, rows = networks[0], 1 if device == "cpu" else job.batch * len(mixture.kinds)
    x = torch.zeros(rows, len(mixture.mixture), device=device)
    t = torch.full((rows,), len(prior.schedule) // 2, device=device)
    where = next(prior.parameters()).device

    def work() -> None:
        x_t = x.clone().requires_grad_(gradients)
        with torch.set_grad_enabled(gradients):
            eps = prior(x_t, t)
        if gradients:
            torch.autograd.grad(eps.sum(), x_t)

    prior.to(device)
    key = (getattr(prior.net, "config", type(prior.net).__name__), *x.shape, "guided" if gradients else "forward")
    choice = precision.choose(AUTO, device, key, work)
    prior.to(where)
    return choice.precision, [f"precision: {choice.why}"]


def flop_rate(job: Job) -> tuple[float, str]:
    """FLOP per second that all processes may reach, and who they are."""
    count = max(job.processes, ranks()[1])
    together = min(count, torch.cuda.device_count()) if job.device == "cuda" else 1
    dtype = PRECISIONS[job.precision]
    peak, mfu = together * peak_matmul_flops(job.device, dtype, seconds=0.1), usual_mfu(job.device, dtype)
    return mfu * peak, f"{count} x {job.device}, {peak / 1e12:.3g} TFLOP/s of matrix products, at {mfu:.0%} of that"
