"""Arguments that can be one of a few words."""

from __future__ import annotations

from collections.abc import Iterable


def one_of(name: str, value: object, accepted: Iterable) -> None:
    """Raises ValueError, which names the argument and what is accepted, for any other value."""
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted: {', '.join(map(repr, accepted))}")
