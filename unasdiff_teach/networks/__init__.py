"""Networks that predict noise (`TriplePathUNet`, `DiffWave`) or sources (`TFLoCoformer`, `ConvTasNet`)."""

from .conv_tasnet import ConvTasNet, ConvTasNetConfig
from .diffwave import DiffWave, DiffWaveConfig
from .tf_locoformer import TFLoCoformer, TFLoCoformerConfig
from .triple_path import TriplePathConfig, TriplePathUNet

__all__ = [
    "ConvTasNet", "ConvTasNetConfig", "DiffWave", "DiffWaveConfig", "TFLoCoformer", "TFLoCoformerConfig",
    "TriplePathConfig", "TriplePathUNet",
]  # fmt: skip
