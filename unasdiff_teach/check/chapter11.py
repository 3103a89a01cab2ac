"""Checkers for chapter 11, other systems."""

from __future__ import annotations

import torch

from .core import Property, checker, noise


@checker("11.1", "a projection that knows who is uncertain")
def uneven_projection(answer):
    """answer(sources [K, N], mixture [N], variance [K]) -> [K, N], which add up to the mixture; the sources share the
    missing difference in proportion to their variances."""
    y, even, uneven = (
        noise(20, seed=9),
        torch.ones(2, dtype=torch.float64),
        torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64),
    )

    def right(x, variance):
        return x + (variance / variance.sum())[:, None] * (y - x.sum(0))

    two, three = noise(2, 20), noise(3, 20)
    exact = torch.stack([y / 2, y / 4, y / 4])
    return [
        Property(
            "two sources alike: half of the difference each",
            lambda: answer(two, y, even),
            right(two, even),
            "share it equally",
        ),
        Property(
            "three sources of unequal variance",
            lambda: answer(three, y, uneven),
            right(three, uneven),
            "source k takes the share variance[k] / variance.sum()",
        ),
        Property(
            "they add up to the mixture",
            lambda: answer(three, y, uneven).sum(0),
            y,
            "the shares must add up to 1, whatever K is",
            1e-8,
        ),
        Property(
            "sources that add up already stay",
            lambda: answer(exact, y, uneven),
            exact,
            "there is nothing to share",
            1e-8,
        ),
        Property(
            "a source that is certain stays",
            lambda: answer(two, y, torch.tensor([0.0, 3.0], dtype=torch.float64))[0],
            two[0],
            "a variance of 0 takes nothing of the difference",
            1e-8,
        ),
    ]


@checker("11.2", "one step of the Dirac sampler")
def dirac_step(answer):
    """answer(u [K, N], eps [K, N], sigma, below, mixture [N]) -> the next u [K, N]: an Euler step from the noise level
    `sigma` to `below`; the last source is the mixture minus the others."""
    y = noise(20, seed=9)

    def tied(free):
        return torch.cat([free, (y - free.sum(0))[None]])

    def right(u, eps, sigma, below):
        return tied(u[:-1] + (below - sigma) * (eps[:-1] - eps[-1]))

    two, three, eps = tied(noise(1, 20)), tied(noise(2, 20)), noise(3, 20, seed=2)
    alike = torch.stack([eps[0]] * 3)
    return [
        Property(
            "two sources",
            lambda: answer(two, eps[:2], 1.5, 1.2, y),
            right(two, eps[:2], 1.5, 1.2),
            "a free source moves by (below - sigma) (its eps - the eps of the last source)",
        ),
        Property(
            "three sources add up to the mixture",
            lambda: answer(three, eps, 1.5, 1.2, y).sum(0),
            y,
            "the last source is the mixture minus the others, after the step",
            1e-8,
        ),
        Property(
            "three sources",
            lambda: answer(three, eps, 1.5, 1.2, y),
            right(three, eps, 1.5, 1.2),
            "every free source has the eps of the last one taken from its own",
        ),
        Property(
            "priors that agree move nothing",
            lambda: answer(three, alike, 0.4, 0.1, y),
            three,
            "only differences between the predictions count",
            1e-8,
        ),
        Property(
            "the last step, to no noise",
            lambda: answer(two, eps[:2], 0.01, 0.0, y),
            right(two, eps[:2], 0.01, 0.0),
            "below is 0",
        ),
    ]


@checker("11.3", "how far DiffWave sees")
def receptive_field(answer):
    """answer(layers, dilation_cycle, kernel) -> samples of the input on which one sample of the output depends: layer
    i has `kernel` taps with dilation 2^(i mod dilation_cycle)."""
    cases = {
        "one layer of three taps": ((1, 12, 3), 3),
        "three layers, dilations 1, 2, 4": ((3, 12, 3), 15),
        "the cycle starts again": ((4, 2, 3), 13),
        "five taps": ((3, 12, 5), 29),
        "the large DiffWave of Table 3": ((48, 12, 3), 32761),
    }
    hints = (
        "the sample itself and one on either side", "a layer adds (kernel - 1) times its dilation",
        "dilations are 1, 2, 1, 2", "a layer adds (kernel - 1) times its dilation", "4 cycles of dilations 1 to 2048",
    )  # fmt: skip
    return [
        Property(name, lambda case=case: answer(*case), samples, hint)
        for (name, (case, samples)), hint in zip(cases.items(), hints, strict=True)
    ]


@checker("11.4", "one update of NMF's activations")
def multiplicative_update(answer):
    """answer(V [F, T], W [F, R], H [R, T]) -> the next H [R, T], all positive: the multiplicative update that never
    raises the divergence of Kullback and Leibler, sum V log(V / WH) - V + WH."""
    V, W, H = (noise(*shape, seed=i).abs() + 0.1 for i, shape in enumerate(((12, 8), (12, 3), (3, 8))))

    def divergence(H):
        return float((V * (V / (W @ H)).log() - V + W @ H).sum())

    right = H * (W.T @ (V / (W @ H))) / W.sum(0)[:, None]
    many = right
    for _ in range(50):
        many = many * (W.T @ (V / (W @ many))) / W.sum(0)[:, None]

    def after(count):
        H_now = H
        for _ in range(count):
            H_now = answer(V, W, H_now)
        return H_now

    return [
        Property(
            "one update",
            lambda: answer(V, W, H),
            right,
            "H times W'(V / WH), over the column sums of W: the ratio, not V itself",
        ),
        Property(
            "an exact explanation stays",
            lambda: answer(W @ H, W, H),
            H,
            "where WH = V, the ratio is 1 and both factors are the column sums of W",
            1e-8,
        ),
        Property(
            "the divergence falls",
            lambda: divergence(torch.as_tensor(after(3), dtype=torch.float64)),
            f"less than {divergence(H):.4g}",
            "multiply by a factor above 1 where the model is too small",
            test=lambda d: float(d) < divergence(H),
        ),
        Property("fifty updates", lambda: after(51), many, "H changes in every update, W and V do not"),
    ]
