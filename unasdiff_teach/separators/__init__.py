"""Supervised separators: a network with the kinds of its outputs, its file, and those that come with the package."""

from .separator import Separator, SeparatorConfig, fit_gains, read, save
from .shipped import available, load

__all__ = ["Separator", "SeparatorConfig", "available", "fit_gains", "load", "read", "save"]
