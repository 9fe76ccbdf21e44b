"""TransMIL: a transformer over the tiles whose self-attention is approximated by landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dmml.cohort.magnifications import DEFAULT_MAGNIFICATIONS
from dmml.functional.precision import at_least_float32
from dmml.nn.baselines.inputs import dtype_of, mean_of_available, read_tissue
from dmml.nn.module_dict import TypedModuleDict
from dmml.types import Batch


class NystromAttention(nn.Module):
    """Self-attention through landmarks, plus a depthwise convolution of the values along the tokens.

    softmax(Q K̃ᵀ) · pinv(softmax(Q̃ K̃ᵀ)) · softmax(Q̃ Kᵀ) · V, where Q̃ and K̃ are means of neighbouring tokens.

    Args:
        width: Width of the tokens.
        heads: Number of attention heads, each of width `width / heads`.
        landmarks: Number of landmarks; with fewer tokens, every token is one. Zeros are put in front of the tokens, so
            that all runs are of equal length.
        iterations: Steps of the pseudo-inverse.
        kernel: Taps of the convolution.

    Shape:
        tokens (B, N, width) → (B, N, width).

    Source: Xiong et al., AAAI 2021, eq. 13 and 14.
    """

    def __init__(self, width: int, heads: int = 8, landmarks: int = 256, iterations: int = 6, kernel: int = 33):
        super().__init__()
        self.heads, self.landmarks, self.iterations = heads, landmarks, iterations
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        self.conv = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend."""
        n = tokens.shape[1]
        n_marks = min(self.landmarks, n)
        tokens = pad(tokens, (0, 0, -n % n_marks, 0))
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in self.qkv(tokens).chunk(3, -1))
        query = query * query.shape[-1] ** -0.5
        query_marks, key_marks = (x.unflatten(2, (n_marks, -1)).mean(3) for x in (query, key))  # (B, H, L, d_h)
        to_marks = (query @ key_marks.transpose(-1, -2)).softmax(-1)  # (B, H, N, L)
        among_marks = (query_marks @ key_marks.transpose(-1, -2)).softmax(-1)  # (B, H, L, L)
        from_marks = (query_marks @ key.transpose(-1, -2)).softmax(-1)  # (B, H, L, N)
        inverse = pseudo_inverse(among_marks, self.iterations).to(value.dtype)
        attended = (to_marks @ inverse) @ (from_marks @ value) + self.conv(value)
        return self.dropout(self.out(attended.transpose(1, 2).flatten(2)))[:, -n:]


def pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """Approximate the pseudo-inverse (…, L, L) of a matrix by an iteration of third order, at least in float32."""
    with torch.autocast(a.device.type, enabled=False):
        a = at_least_float32(a)
        size = a.abs()
        z = a.transpose(-1, -2) / (size.sum(-1).amax() * size.sum(-2).amax())
        one = torch.eye(a.shape[-1], device=a.device, dtype=a.dtype)
        for _ in range(iterations):
            az = a @ z
            z = 0.25 * z @ (13 * one - az @ (15 * one - az @ (7 * one - az)))
        return z


class _Stream(nn.Module):
    """TransMIL of one magnification. Features (1, N, D) of one patient, N ≥ 1 → logits (1, C)."""

    def __init__(self, n_features: int, n_outputs: int, width: int, landmarks: int):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(n_features, width), nn.ReLU())
        self.class_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.layers = nn.ModuleList(NystromAttention(width, landmarks=landmarks) for _ in range(2))
        self.position = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, groups=width) for k in (7, 5, 3))
        self.head = nn.Linear(width, n_outputs)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.project(features)  # (1, N, width)
        side = max(1, int(tokens.shape[1] ** 0.5))
        side += side * side < tokens.shape[1]
        tokens = torch.cat([tokens, tokens[:, : side * side - tokens.shape[1]]], 1)  # the first again, to fill a square
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = tokens + self.layers[0](self.norms[0](tokens))
        square = tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        square = square + torch.stack([conv(square) for conv in self.position]).sum(0)
        tokens = torch.cat([tokens[:, :1], square.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + self.layers[1](self.norms[1](tokens))
        return self.head(self.norms[2](tokens)[:, 0])


class TransMIL(nn.Module):
    """Two layers of Nyström attention with a pyramid of convolutions for the position between, and a class token.

    One independent stream per magnification; logits are averaged. Patients are read one by one, because the network
    has no notion of padding, and in the order of their tokens, from which it takes their positions.

    Args:
        n_features: Width D of the encoder's features.
        n_outputs: Number of outputs C.
        width: Width of the tokens, a multiple of 8.
        magnifications: Magnifications that the network reads.
        landmarks: Number of landmarks of the attention.

    Source: Shao et al., NeurIPS 2021.
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        width: int = 512,
        magnifications: Sequence[int] = DEFAULT_MAGNIFICATIONS,
        landmarks: int = 256,
    ):
        super().__init__()
        if width % 8:
            raise ValueError(f"TransMIL has eight attention heads, and a width of {width} is no multiple of 8")
        self.n_features, self.magnifications = n_features, tuple(magnifications)
        self.streams = TypedModuleDict[_Stream](
            {f"{m}x": _Stream(n_features, n_outputs, width, landmarks) for m in self.magnifications}
        )

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits. → (B, C)."""
        logits, available = [], []
        for m in self.magnifications:
            stream = self.streams[f"{m}x"]
            features, mask = read_tissue(batch, m, self.n_features, dtype_of(stream))
            # A bag without tokens is read as one token of zeros, so that every parameter takes part.
            patients = [x[real] if real.any() else x[:1] for x, real in zip(features, mask, strict=True)]
            logits.append(torch.cat([stream(x.unsqueeze(0)) for x in patients]))
            available.append(mask.any(1))
        return mean_of_available(torch.stack(logits), torch.stack(available))
