"""Is the attention block of the token aggregation worth its code, compared with PyTorch's encoder layer?

Both get the same weights and the same masks, without dropout; one patient of each batch has no tokens. One thread,
float32, width 128, 4 heads. Both take turns in every round, and the minimum of the CPU seconds over the rounds counts.
Prints the table and writes `attention_block.md`.

    python benchmarks/attention_block.py --out docs/results
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from model_speed import alternate, processor
from torch import Tensor, nn

from dmml.nn.aggregator import AttentionBlock

WIDTH, HEADS = 128, 4
SIZES = ((16, 8), (4, 1500))
"""Patients and tokens per patient: merged tokens by default, and all tokens with `n_merged: null`"""


def encoder_layer(block: AttentionBlock, width: int = WIDTH, heads: int = HEADS) -> nn.TransformerEncoderLayer:
    """PyTorch's pre-norm encoder layer with the weights of a block, and without dropout."""
    layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias = block.qkv.weight, block.qkv.bias
    layer.self_attn.out_proj, layer.norm1, layer.norm2 = block.out, block.norm_attention, block.norm_feed_forward
    layer.linear1, layer.linear2 = block.feed_forward[0], block.feed_forward[3]
    return layer


def random_block(width: int = WIDTH, heads: int = HEADS) -> AttentionBlock:
    """A block without dropout whose residual branches are not zero, as after training."""
    block = AttentionBlock(width, heads, dropout=0.0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return block


def random_tokens(n_patients: int, n_tokens: int, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """Tokens (B, K, d) with zeros at padding, and their mask (B, K); the second patient has none."""
    mask = torch.rand(n_patients, n_tokens) < 0.7
    mask[:, 0] = True
    mask[1] = False
    return torch.randn(n_patients, n_tokens, width).masked_fill(~mask.unsqueeze(-1), 0), mask


def as_called(
    block: AttentionBlock, layer: nn.TransformerEncoderLayer
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Both as functions of tokens and mask. A row without any token is unmasked for the layer, as in the block."""
    return {
        "block": block,
        "layer": lambda tokens, mask: layer(tokens, src_key_padding_mask=~(mask | ~mask.any(1, keepdim=True))),
    }


def step(call: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, mask: Tensor) -> Tensor:
    """Forward and backward; returns the gradient of the tokens."""
    tokens = tokens.clone().requires_grad_()
    (call(tokens, mask) * mask.unsqueeze(-1)).square().sum().backward()
    return tokens.grad


def compare(n_patients: int, n_tokens: int, rounds: int) -> list[str]:
    """One row of each table: largest differences, and CPU milliseconds."""
    block = random_block()
    layer = encoder_layer(block)
    tokens, mask = random_tokens(n_patients, n_tokens)
    calls = as_called(block, layer)
    of_values = (calls["block"](tokens, mask) - calls["layer"](tokens, mask)).abs().max().item()
    gradients = [step(call, tokens, mask) for call in calls.values()]
    of_gradients = (gradients[0] - gradients[1]).abs().max().item()
    training = alternate({name: (lambda c=call: step(c, tokens, mask)) for name, call in calls.items()}, rounds)
    block.eval(), layer.eval()
    with torch.no_grad():
        of_fused = (calls["block"](tokens, mask) - calls["layer"](tokens, mask))[mask].abs().max().item()
        alone_is_nan = bool(layer(tokens, src_key_padding_mask=~mask)[1].isnan().any())
        inference = alternate({name: (lambda c=call: c(tokens, mask)) for name, call in calls.items()}, rounds)
    times = [f"{1e3 * best[name]['cpu_s']:.2f}" for best in (training, inference) for name in calls]
    unguarded = "NaN" if alone_is_nan else "finite"
    return [
        f"| {n_patients} × {n_tokens:,} | {of_values:.1g} | {of_gradients:.1g} | {of_fused:.1g} | {unguarded} |",
        f"| {n_patients} × {n_tokens:,} | {' | '.join(times)} |",
    ]


def page(rounds: int) -> str:
    """The page in Markdown."""
    rows = [compare(n_patients, n_tokens, rounds) for n_patients, n_tokens in SIZES]
    return "\n".join(
        [
            "# The attention block beside PyTorch's encoder layer",
            "",
            "The block of `dmml/nn/aggregator.py` and `nn.TransformerEncoderLayer(norm_first=True)` with the same "
            "weights and masks, without dropout; one patient of each batch has no tokens. One thread, float32, width "
            "128, 4 heads.",
            "",
            "    python benchmarks/attention_block.py --out docs/results",
            "",
            f"torch {torch.__version__}, {processor()}",
            "",
            "Largest difference of values, of gradients, and of values without gradients, where the layer takes its "
            "fused path; and what that path gives for a patient without tokens if its mask is passed on as it is",
            "",
            "| patients × tokens | values | gradients | values, fused path | no tokens, fused path |",
            "|---|---|---|---|---|",
            *(row[0] for row in rows),
            "",
            f"CPU milliseconds, minima over {rounds} rounds in which both took turns",
            "",
            "| patients × tokens | block, forward and backward | layer | block, forward without gradients | layer |",
            "|---|---|---|---|---|",
            *(row[1] for row in rows),
            "",
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds; the minimum over them counts")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    text = page(arguments.rounds)
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "attention_block.md").write_text(text)


if __name__ == "__main__":
    main()
