"""Checker for chapter 12, full training."""

from __future__ import annotations

from .core import Property, checker


@checker("12.1", "the batch that fits")
def largest_batch(answer):
    """answer(memory, own, clip, devices) -> the largest batch, of all devices together, that can be trained: each
    device has `memory` GB, keeps `own` GB for weights, gradients, moments and averages, and `clip` GB for each example
    of its share; all devices have equal shares."""
    shared = "every device keeps the weights, gradients, moments and averages of its own"
    whole = "an example is whole or not there, on each device"
    return [
        Property("ten examples of 1 GB beside 2 GB", lambda: answer(12.0, 2.0, 1.0, 1), 10, "memory - own is left"),
        Property("no part of an example", lambda: answer(80.0, 0.75, 11.5, 1), 6, whole),
        Property("two devices keep what is their own twice", lambda: answer(12.0, 2.0, 1.0, 2), 20, shared),
        Property("equal shares of whole examples", lambda: answer(80.0, 0.75, 11.5, 4), 24, whole),
        Property("not even one fits", lambda: answer(8.0, 0.75, 11.5, 4), 0, "a share may be empty"),
        Property("the weights alone do not fit", lambda: answer(0.5, 0.75, 11.5, 4), 0, "no batch is negative"),
    ]
