"""Networks that predict noise or sources."""

from .triple_path import TriplePathConfig, TriplePathUNet

__all__ = ["TriplePathConfig", "TriplePathUNet"]
