"""Packages whose parts are imported when they are first used, and names that have been replaced."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module


def lazy(
    package: str, homes: Mapping[str, str], rooms: Iterable[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        homes: module of the package: the names, with spaces between, that the package has from there.
        rooms: more modules of the package.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}
    modules = {*homes, *rooms}

    def get(name: str) -> object:
        if name in modules:
            return import_module(f".{name}", package)
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{home[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *modules, *home})


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """`__getattr__` of a module in which names were replaced; the old ones warn.

    Args:
        module: its `__name__`.
        names: old name: new one, or "room.name" in another module of this package.
    """

    def get(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = names[name].rpartition(".")
        warnings.warn(f"{module}.{name} is now {names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(f".{place}", __package__) if place else sys.modules[module], new)

    return get


def renamed_arguments(**names: str) -> Callable[[type], type]:
    """Decorate a class some of whose arguments were replaced (old name = new one); the old ones, and attributes of
    them, warn.
    """

    def decorate(cls: type) -> type:
        made, inherited = cls.__init__, getattr(cls, "__getattr__", None)

        def new_name(old: str) -> str:
            warnings.warn(f"{cls.__name__}.{old} is now {names[old]}", DeprecationWarning, stacklevel=3)
            return names[old]

        @wraps(made)
        def init(self: object, *arguments, **named) -> None:
            made(self, *arguments, **named | {new_name(old): named.pop(old) for old in names.keys() & named.keys()})

        def get(self: object, name: str) -> object:
            if name in names:
                return getattr(self, new_name(name))
            if inherited:
                return inherited(self, name)
            raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")

        cls.__init__, cls.__getattr__ = init, get
        return cls

    return decorate
