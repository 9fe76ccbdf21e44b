"""Gene tokens of programs compared with loops over programs and genes."""

import math

import pytest
import torch

from dmml.nn.paper.expression import ProgramTokenEncoder

WIDTH, HIDDEN, GENES = 16, 8, 9
MEMBERS = [[0, 3, 8], [1], [3, 4, 5, 6, 7]]
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def membership(members=MEMBERS):
    table = torch.zeros(GENES, len(members))
    for p, genes in enumerate(members):
        table[genes, p] = 1 / len(genes)  # as `ProgramScores` has it
    return table


def encoder_of(table, n_genes=GENES):
    encoder = ProgramTokenEncoder(n_genes, WIDTH, hidden=HIDDEN).eval()
    encoder.set_programs(table)
    return encoder


def selu(x):
    return SELU_SCALE * (x if x > 0 else SELU_ALPHA * (math.exp(x) - 1))


@pytest.mark.slow
@pytest.mark.parametrize("members", [MEMBERS, [[i] for i in range(GENES)]], ids=["programs", "single genes"])
def test_tokens_are_those_of_a_loop_over_programs_and_genes(members):
    """Each program's first layer reads its genes in the order of their columns, and no others."""
    encoder = encoder_of(membership(members) if members is MEMBERS else None)
    expression, has_rna = torch.randn(4, GENES), torch.tensor([True, True, False, True])
    expression[2] = float("nan")
    with torch.no_grad():
        tokens = encoder(expression, has_rna)
        assert tokens.shape == (4, len(members), WIDTH)
        for b in range(4):
            for p, genes in enumerate(members):
                hidden = []
                for h in range(HIDDEN):
                    terms = [expression[b, g] * encoder.weight[p, i, h] for i, g in enumerate(genes)]
                    hidden.append(selu((sum(terms) + encoder.bias[p, h]).item()) if has_rna[b] else 0.0)
                expected = encoder.to_token(torch.tensor(hidden)) if has_rna[b] else encoder.missing
                torch.testing.assert_close(tokens[b, p], expected + encoder.program[p], atol=1e-5, rtol=1e-5)


def test_weights_of_padding_are_0_and_stay_so():
    encoder, expression = encoder_of(membership()), torch.randn(5, GENES)
    padding = ~encoder.is_member
    assert padding.sum() == 5 + 5 - 4
    encoder(expression, torch.ones(5, dtype=torch.bool)).square().sum().backward()
    assert not encoder.weight[padding].any()
    assert not encoder.weight.grad[padding].any()
    assert encoder.weight.grad[~padding].all()


def test_a_token_starts_with_the_variance_of_its_genes_whatever_their_number():
    """LeCun's initialisation, separately for each program."""
    members = [list(range(n)) for n in (1, 3, 9)] * 200
    encoder = encoder_of(membership(members))
    hidden = torch.einsum(
        "bpl,plh->bph", torch.randn(2000, GENES)[:, encoder.columns] * encoder.is_member, encoder.weight
    )
    for i in range(3):
        assert hidden[:, i::3].var().item() == pytest.approx(1, abs=0.1)


def test_every_parameter_learns_with_and_without_rna():
    encoder, expression = encoder_of(membership()), torch.randn(3, GENES)
    for has_rna in ([True, False, True], [False, False, False]):
        encoder.zero_grad(set_to_none=True)
        encoder(expression, torch.tensor(has_rna)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
        if any(has_rna):
            assert all(p.grad.any() for p in encoder.parameters())
    encoder.train()
    has_rna = torch.ones(3, dtype=torch.bool)
    assert not torch.equal(encoder(expression, has_rna), encoder(expression, has_rna))


def test_without_genes_there_is_one_learned_token():
    none = encoder_of(torch.zeros(0, 0), n_genes=0)
    tokens = none(torch.zeros(3, 0), torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(tokens, none.missing.expand(3, 1, -1))
    assert set(none.state_dict()) == {"missing"}


def test_the_genes_of_a_subspace_without_programs_are_one_program():
    encoder = encoder_of(torch.zeros(GENES, 0))
    assert encoder(torch.randn(2, GENES), torch.ones(2, dtype=torch.bool)).shape == (2, 1, WIDTH)
    assert encoder.is_member.all()


def test_an_encoder_without_its_programs_refuses_to_encode():
    with pytest.raises(RuntimeError, match="call set_programs first"):
        ProgramTokenEncoder(GENES, WIDTH)(torch.randn(2, GENES), torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize(("n_programs", "size"), [(25, 200), (361, 1)])
def test_the_first_layers_are_one_product_without_intermediate_copies(n_programs, size):
    """The largest tensor is the gathered expression or the hidden layer, not a value per gene and hidden unit."""
    n_genes = n_programs * size
    encoder = ProgramTokenEncoder(n_genes, WIDTH).eval()
    encoder.set_programs(torch.eye(n_programs).repeat_interleave(size, 0))
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(torch.randn(8, n_genes), torch.ones(8, dtype=torch.bool))
    assert max(kept) <= max(encoder.weight.numel(), 8 * n_programs * max(size, encoder.hidden))
