import pytest
import torch

from bico.models.binder import Binder, HierarchicalBinder, TwoBranchBinder, gate_sizes

WIDTH = 12


def stirred(binder: HierarchicalBinder) -> HierarchicalBinder:
    """As if trained: every parameter away from its start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in binder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return binder


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_are_those_of_the_paper_at_full_width() -> None:
    with torch.device("meta"):
        assert count(Binder(1536)) == 4_727_809
        assert count(TwoBranchBinder(1536)) == 9_460_226
        assert count(HierarchicalBinder(1536, 30)) == 146_562_079  # 146.6 M


def test_a_binder_of_low_rank_changes_tokens_in_few_directions_and_reopens_as_it_is() -> None:
    binder = stirred(HierarchicalBinder(64, 2, two_branch=True, rank=3))
    tokens = torch.randn(200, 64)
    before_the_last_norm = binder.shared.spatial[:-1](tokens)
    assert torch.linalg.matrix_rank(before_the_last_norm - before_the_last_norm.mean(0), rtol=1e-4) == 3
    context, mask = torch.randn(1, 4, 64), torch.ones(1, 4, dtype=torch.bool)
    reopened = HierarchicalBinder.from_tensors(binder.state_dict(), 2)
    torch.testing.assert_close(reopened(context, mask), binder(context, mask), rtol=0, atol=0)


@pytest.mark.parametrize("two_branch", [False, True])
def test_an_untrained_binder_changes_nothing(two_branch: bool) -> None:
    context, mask = torch.randn(2, 5, WIDTH), torch.ones(2, 5, dtype=torch.bool)
    for dtype in (torch.float32, torch.bfloat16):
        contexts = HierarchicalBinder(WIDTH, 3, two_branch=two_branch)(context.to(dtype), mask)
        assert len(contexts) == 3
        assert all(torch.equal(each, context.to(dtype)) for each in contexts)


def test_only_masked_tokens_change() -> None:
    context, mask = torch.randn(2, 5, WIDTH), torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    for each in stirred(HierarchicalBinder(WIDTH, 3, two_branch=True))(context, mask):
        assert torch.equal(each[~mask], context[~mask])
        assert (each[mask] != context[mask]).any(dim=-1).all()


def test_blocks_start_from_the_global_binder_and_do_not_chain() -> None:
    binder = stirred(HierarchicalBinder(WIDTH, 2))
    context, mask = torch.randn(1, 3, WIDTH), torch.ones(1, 3, dtype=torch.bool)
    shared = context + binder.shared.gamma * binder.shared.spatial(context)
    torch.testing.assert_close(binder(context, mask, per_block=False), [shared, shared])
    expected = [shared + block.gamma * block.spatial(shared) for block in binder.blocks]
    torch.testing.assert_close(binder(context, mask), expected)


def test_tokens_do_not_mix() -> None:
    binder = stirred(HierarchicalBinder(WIDTH, 1))
    context, mask = torch.randn(1, 4, WIDTH), torch.ones(1, 4, dtype=torch.bool)
    other = context.clone()
    other[:, 1:] = torch.randn(1, 3, WIDTH)
    torch.testing.assert_close(binder(context, mask)[0][:, 0], binder(other, mask)[0][:, 0])


def test_the_gate_blends_the_branches_and_starts_closed() -> None:
    binder, tokens = TwoBranchBinder(WIDTH), torch.randn(4, WIDTH)
    assert torch.equal(binder.direction(tokens, temporal=True), binder.direction(tokens, temporal=False))
    torch.nn.init.ones_(binder.gate[1].bias)
    torch.testing.assert_close(binder.direction(tokens, temporal=True), binder.temporal(tokens))


def test_the_temporal_branch_gets_a_gradient_after_the_second_step() -> None:
    torch.manual_seed(0)
    binder, tokens, wanted = TwoBranchBinder(WIDTH), torch.randn(4, WIDTH), torch.randn(4, WIDTH)
    torch.nn.init.constant_(binder.gamma, 0.1)  # as stage 1 leaves it
    optimizer = torch.optim.AdamW(binder.parameters(), lr=1e-3)
    sizes = []
    for _ in range(3):
        optimizer.zero_grad()
        (binder(tokens) - wanted).square().mean().backward()
        sizes.append(binder.temporal[1].weight.grad.norm().item())
        optimizer.step()
    assert sizes[0] == 0
    assert sizes[2] > sizes[1] > 0


def test_strength_scales_the_change() -> None:
    binder, tokens = TwoBranchBinder(WIDTH), torch.randn(4, WIDTH)
    torch.nn.init.ones_(binder.gamma)
    assert torch.equal(binder(tokens, strength=0.0), tokens)
    torch.testing.assert_close(2 * (binder(tokens, strength=0.5) - tokens), binder(tokens) - tokens)


@pytest.mark.parametrize("two_branch", [False, True])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_the_form_of_a_binder_is_read_from_its_tensors(two_branch: bool, hierarchical: bool) -> None:
    binder = stirred(HierarchicalBinder(WIDTH, 3, two_branch=two_branch, hierarchical=hierarchical))
    opened = HierarchicalBinder.from_tensors(binder.state_dict(), num_blocks=3)
    context, mask = torch.randn(1, 3, WIDTH), torch.ones(1, 3, dtype=torch.bool)
    assert all(torch.equal(a, b) for a, b in zip(binder(context, mask), opened(context, mask), strict=True))


def test_single_frames_keep_every_binder_on_its_spatial_branch() -> None:
    binder = stirred(HierarchicalBinder(WIDTH, 2, two_branch=True))
    context, mask = torch.randn(1, 3, WIDTH), torch.ones(1, 3, dtype=torch.bool)
    shared = context + binder.shared.gamma * binder.shared.spatial(context)
    expected = [shared + block.gamma * block.spatial(shared) for block in binder.blocks]
    torch.testing.assert_close(binder(context, mask, temporal=False), expected)
    torch.testing.assert_close(binder(context, mask, temporal=False, per_block=False), [shared, shared])


def test_recorded_gates_are_those_that_bound_tokens_passed_in_training() -> None:
    context, mask = torch.randn(1, 3, WIDTH), torch.tensor([[True, True, False]])

    def passes(binder: HierarchicalBinder, **how: bool) -> int:
        with binder.recorded_gates() as gates:
            binder(context, mask, **how)
        assert all(gate.shape == (2, 1) and not gate.requires_grad for gate in gates)
        return len(gates)

    binder = HierarchicalBinder(WIDTH, 4, two_branch=True)
    assert passes(binder) == 5 and passes(binder, per_block=False) == 1 and passes(binder, temporal=False) == 0
    with torch.no_grad():
        assert passes(binder) == 0
    assert passes(HierarchicalBinder(WIDTH, 4)) == 0
    assert passes(HierarchicalBinder(WIDTH, 4, two_branch=True, gate="released")) == 0


def test_sizes_of_gates_are_over_all_that_were_passed() -> None:
    sizes = gate_sizes([torch.tensor([[0.25], [-0.5]]), torch.tensor([[0.0], [0.25]])])
    assert {name: size.item() for name, size in sizes.items()} == {"gate_mean": 0.25, "gate_largest": 0.5}
    assert gate_sizes([]) == {}


def test_gammas_are_told_by_their_size() -> None:
    binder = HierarchicalBinder(WIDTH, 2)
    with torch.no_grad():
        binder.shared.gamma.fill_(-0.5)
        binder.blocks[0].gamma.fill_(-0.25)
    assert {name: size.tolist() for name, size in binder.gammas().items()} == {
        "gamma_global": 0.5,
        "gamma_blocks": [0.25, 0.0],
    }
