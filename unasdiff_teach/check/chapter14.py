"""Checker for chapter 14, beyond the paper."""

from __future__ import annotations

from .core import Property, checker, noise


def _measured(variance: float, runs: int, shared: float) -> float:
    """Mean squared error of the mean of runs, over 40,000 truths: each run's deviation is partly that of all."""
    truth, common, *own = variance**0.5 * noise(2 + runs, 40_000, seed=runs)
    mean = shared**0.5 * common + (1 - shared) ** 0.5 * sum(own) / runs
    return float((mean - truth).square().mean())


@checker("14.1", "what several runs buy")
def error_of_mean(answer):
    """answer(variance, runs, shared) -> expected squared error of the mean of `runs` samples of a posterior of this
    variance; of each sample's deviation from the posterior's mean, the fraction `shared` of the power is the same in
    all runs, the rest independent; the truth is independent of them all."""
    alike = "what the runs share stays, however many there are; the rest is averaged"
    return [
        Property("independent runs, as in section 14.4", lambda: answer(0.04, 4, 0.0), 0.05, "V (1 + 1 / n)"),
        Property("one run: twice the variance, whatever is shared", lambda: answer(0.5, 1, 0.3), 1.0, alike),
        Property("all runs alike: as good as one", lambda: answer(0.5, 100, 1.0), 1.0, alike),
        Property("half is shared, four runs", lambda: answer(1.0, 4, 0.5), 1.625, alike),
        Property("very many runs", lambda: answer(2.0, 10**9, 0.25), 2.5, alike),
        Property(
            "as simulated, three runs",
            lambda: answer(1.0, 3, 0.4),
            f"{_measured(1.0, 3, 0.4):.2f}, to within 0.05",
            alike,
            test=lambda came: abs(float(came) - _measured(1.0, 3, 0.4)) < 0.05,
        ),
    ]
