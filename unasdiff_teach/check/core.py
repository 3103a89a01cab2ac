"""What every checker is made of: named properties of a reader's function, tried in order, and a report."""

from __future__ import annotations

import linecache
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps

import torch
from torch import Tensor

RELATIVE = 1e-4  # of the expected value; readers may compute in single precision


@dataclass(frozen=True)
class Property:
    """One thing that has to hold for the reader's function.

    Attributes:
        name: what has to hold, as a statement.
        came: calls the reader's function; nothing else may.
        expected: what it has to return: a number, a tensor, or a tuple of these. With `test`, what is accepted, in
            words.
        hint: what to think of when it does not hold.
        atol: absolute tolerance of each number, beside the relative one.
        test: for what is no comparison with a value: receives what came, as a tensor of float64.
    """

    name: str
    came: Callable[[], object]
    expected: object
    hint: str
    atol: float = 1e-4
    test: Callable[[Tensor], bool] | None = None


@dataclass(frozen=True)
class Failure:
    """The first property that does not hold: its name, what was expected and what came, in words, and its hint."""

    name: str
    expected: str
    came: str
    hint: str

    def __str__(self) -> str:
        lines = [f"  FAILS  {self.name}"]
        for title, text in (("expected", self.expected), ("came", self.came), ("hint", self.hint)):
            lines += _wrapped(f"         {title + ':':10s}", text)
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class Report:
    """What a checker returns. True if all properties hold; a notebook shows it where it ends a cell.

    Attributes:
        exercise: number and title.
        held: names of the properties that hold, in the order in which they were tried.
        failed: the first one that does not, or None.
        untried: how many stand behind that one.
    """

    exercise: str
    held: tuple[str, ...]
    failed: Failure | None = None
    untried: int = 0

    def __bool__(self) -> bool:
        return self.failed is None

    def __repr__(self) -> str:
        verdict = f"solved, all {len(self.held)} properties hold" if self else "not yet"
        lines = [f"Exercise {self.exercise}: {verdict}", *(f"  holds  {name}" for name in self.held)]
        if self.failed is not None:
            lines.append(str(self.failed))
        if self.untried:
            lines.append(f"  ({self.untried} more to try after that)")
        return "\n".join(lines)


def checker(number: str, title: str) -> Callable[[Callable], Callable[[Callable], Report]]:
    """Make a checker, answer -> `Report`, of a function that lists the properties of an answer.

    Args:
        number: of the exercise in the book, "1.2".
        title: what the answer computes.
    """

    def decorate(properties: Callable[[Callable], Iterable[Property]]) -> Callable[[Callable], Report]:
        @wraps(properties)
        def check(answer: Callable) -> Report:
            return _examine(f"{number}, {title}", properties, answer)

        check.number = number
        return check

    return decorate


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers for a property, float64, the same each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _examine(exercise: str, properties: Callable[[Callable], Iterable[Property]], answer: Callable) -> Report:
    if not callable(answer):
        hint = "pass the function by its name, without brackets and arguments"
        return Report(exercise, (), Failure("the answer is a function", "a function", _words(answer), hint))
    listed = list(properties(_protected(answer)))
    held = []
    for number, wanted in enumerate(listed, 1):
        if failure := _failure(wanted, answer):
            return Report(exercise, tuple(held), failure, len(listed) - number)
        held.append(wanted.name)
    return Report(exercise, tuple(held))


def _protected(answer: Callable) -> Callable:
    """The answer on copies of its tensors, so that one that writes into them spoils no later property."""
    return lambda *arguments: answer(*(a.clone() if isinstance(a, Tensor) else a for a in arguments))


def _failure(wanted: Property, answer: Callable) -> Failure | None:
    try:
        came = wanted.came()
    except Exception as error:  # whatever the reader's code raises is a finding, not an error of the checker
        expected = wanted.expected if wanted.test else _words(wanted.expected)
        return Failure(wanted.name, expected, _raised(error, answer), wanted.hint)
    if wanted.test:
        numbers = _numbers(came)
        if numbers is not None and wanted.test(numbers):
            return None
        return Failure(wanted.name, wanted.expected, _words(came), wanted.hint)
    if difference := _difference(came, wanted.expected, wanted.atol):
        return Failure(wanted.name, *difference, wanted.hint)
    return None


def _difference(came: object, expected: object, atol: float) -> tuple[str, str] | None:
    """What was expected and what came, in words, where they differ; None where they agree."""
    if isinstance(expected, tuple):
        if not isinstance(came, tuple | list) or len(came) != len(expected):
            return f"{len(expected)} values", _words(came)
        for number, (part, wanted) in enumerate(zip(came, expected, strict=True), 1):
            if difference := _difference(part, wanted, atol):
                return tuple(f"{text} (value {number} of {len(expected)})" for text in difference)
        return None
    wanted, numbers = _numbers(expected), _numbers(came)
    if numbers is None or numbers.shape != wanted.shape:
        return _words(expected), _words(came)
    agree = torch.isclose(numbers, wanted, rtol=RELATIVE, atol=atol)
    if agree.all():
        return None
    if not wanted.ndim:
        return _pair(wanted, numbers)
    first = tuple((~agree).nonzero()[0].tolist())
    here, there = _pair(wanted[first], numbers[first])
    wrong = int((~agree).sum())
    return f"{here} at {list(first)}", f"{there} ({wrong} of {agree.numel()} values are off)"


def _numbers(value: object) -> Tensor | None:
    """As float64 on the CPU, or None for what holds no numbers."""
    try:
        return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        return None


def _pair(expected: Tensor, came: Tensor) -> tuple[str, str]:
    """Two numbers in as many digits as tell them apart."""
    for digits in (4, 8, 17):
        texts = tuple(f"{float(x) + 0.0:.{digits}g}" for x in (expected, came))
        if texts[0] != texts[1]:
            break
    return texts


def _words(value: object) -> str:
    """A value for a reader: short, and the same on every processor."""
    if value is None:
        return "None (is there a return?)"
    if isinstance(value, tuple) and not all(isinstance(part, int | float) for part in value):
        return f"{len(value)} values: " + "; ".join(map(_words, value))
    numbers = _numbers(value)
    if numbers is None:
        return f"a {type(value).__name__}"
    if numbers.numel() == 1:
        return f"{float(numbers):.4g}" + (f" of shape {list(numbers.shape)}" if numbers.ndim else "")
    if numbers.numel() <= 6 and numbers.ndim == 1:
        return "[" + ", ".join(f"{x:.4g}" for x in numbers.tolist()) + "]"
    return f"values of shape {list(numbers.shape)}"


def _raised(error: Exception, answer: Callable) -> str:
    """Which exception, and in which line of the reader's function; none of the library's own frames."""
    message = (str(error).splitlines() or [""])[0]
    text = f"{type(error).__name__}: {message}".rstrip(": ")
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    frame, line = error.__traceback__, ""
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == file:
            line = linecache.getline(file, frame.tb_lineno).strip()
        frame = frame.tb_next
    return f"{text}, in the line  {line}" if line else text


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(text, 76, initial_indent=start, subsequent_indent=" " * len(start))
