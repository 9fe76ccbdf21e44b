"""Baseline networks, to which the models are compared: they read a `Batch` and return only logits (B, C).

A patient without tissue, RNA or both gets finite logits: missing input is replaced by zeros, and an average of logits
counts only the available parts. Every branch runs, whatever a batch lacks, because DDP requires it.
"""

from dmml.nn.baselines.histology import GatedABMIL, GatedAttention, GatedStreams, MeanPool
from dmml.nn.baselines.mcat import MCAT
from dmml.nn.baselines.multimodal import EarlyConcat, LateFusion
from dmml.nn.baselines.rna import GeneEmbedding, RNANetwork
from dmml.nn.baselines.transmil import TransMIL

__all__ = [
    "MCAT", "EarlyConcat", "GatedABMIL", "GatedAttention", "GatedStreams", "GeneEmbedding", "LateFusion", "MeanPool",
    "RNANetwork", "TransMIL",
]  # fmt: skip
