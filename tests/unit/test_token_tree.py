"""Token trees: their shape, and the plain model's logits run on one."""

import pytest
import torch

from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import apart, groups, grow, next_logits

PROMPTS = [[0, 5, 17, 4, 33], [0, 5, 18], [0, 5], [9, 5, 17], [0, 5, 18], [0, 5, 17, 4, 34], [3]]


def test_a_tree_holds_each_beginning_once_and_roots_first() -> None:
    tree = grow(PROMPTS)
    beginnings = {tuple(prompt[: end + 1]) for prompt in PROMPTS for end in range(len(prompt))}
    assert len(tree) == len(beginnings) == 11
    assert tree.n_roots == 3
    assert tree.depth.tolist() == sorted(tree.depth.tolist())
    assert tree.lengths == [len(prompt) for prompt in PROMPTS]
    for prompt, path in zip(PROMPTS, tree.paths.tolist(), strict=True):
        assert tree.ids[path[: len(prompt)]].tolist() == prompt
        assert set(path[len(prompt) :]) <= {path[len(prompt) - 1]}
        for position, node in enumerate(path[: len(prompt)]):
            assert torch.nonzero(~tree.hidden[node])[:, 0].tolist() == path[: position + 1]
    assert tree.last.tolist() == [path[-1] for path in tree.paths.tolist()]
    assert tree.leaves[tree.leaf_of].tolist() == tree.last.tolist()
    assert len(set(tree.leaves.tolist())) == len(tree.leaves) == 6


@pytest.mark.parametrize("separate", [False, True])
def test_the_models_logits_on_a_tree_are_those_of_each_prompt(model: LanguageModel, separate: bool) -> None:
    network = model.transformer
    tree = grow(PROMPTS, beside=apart(PROMPTS) if separate else None)
    assert len(tree) == (22 if separate else 11)
    alone = torch.cat([network.logits(torch.tensor([prompt])) for prompt in PROMPTS])
    torch.testing.assert_close(next_logits(network, tree), alone, rtol=0, atol=1e-10)
    row = torch.tensor(PROMPTS[:1])
    torch.testing.assert_close(next_logits(network, row), network.logits(row), rtol=0, atol=0)


def test_what_stands_beside_splits_nodes_and_can_take_their_place() -> None:
    others = [[0, 6, 17, 4, 33], [0, 6, 18], [0, 5], [9, 5, 17], [0, 6, 18], [0, 6, 17, 4, 34], [3]]
    tree = grow(PROMPTS, beside=others)
    assert len(tree) == 12  # prompt 2 differs from the others in what stands beside its second token
    swapped = tree.with_tokens(others)
    for prompt, path in zip(others, swapped.paths.tolist(), strict=True):
        assert swapped.ids[path[: len(prompt)]].tolist() == prompt
    with pytest.raises(ValueError, match="tokens 6 and 5 meet in one node at position 1"):
        grow(PROMPTS).with_tokens(others)
    with pytest.raises(ValueError, match="needs as many tokens as the clean one"):
        tree.with_tokens([*others[:-1], [3, 3]])
    with pytest.raises(ValueError, match="needs as many tokens as the clean one"):
        grow(PROMPTS, beside=[*others[:-1], [3, 3]])


@pytest.mark.parametrize("prompts", [[], [[1], []]])
def test_no_prompt_and_an_empty_prompt_are_refused(prompts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        grow(prompts)


def test_values_along_the_prompts() -> None:
    tree = grow(PROMPTS)
    x = torch.randn(2, len(tree), 3)
    along = tree.along(x)
    assert along.shape == (2, 7, 5, 3)
    torch.testing.assert_close(along[1, 1, 2], x[1, tree.last[1]], rtol=0, atol=0)


@pytest.mark.parametrize("most", [1, 2, 9])
def test_groups_are_bounded_and_keep_those_that_begin_alike_together(most: int) -> None:
    found = groups(PROMPTS, most)
    assert sorted(index for group in found for index in group) == list(range(7))
    for group in found:
        assert len(grow([PROMPTS[i] for i in group])) <= 5 * most
        assert len(group) <= 4 * most
    assert len(found) == {1: 4, 2: 2, 9: 1}[most]
    assert [len(group) for group in groups([[1]] * 9, 1)] == [4, 4, 1]
    assert groups([], 1) == []
