"""Shards: every block belongs to exactly one, and a wrong --shard is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.errors import UserError
from experiments.sweeping import shard
from experiments.sweeping.shard import Shard


@given(st.integers(1, 9), st.integers(0, 40))
def test_shards_are_disjoint_and_cover_all_blocks_evenly(total, num_blocks):
    shares = [Shard(number, total) for number in range(1, total + 1)]
    owned = [
        [block for block in range(num_blocks) if share.owner(block) == share.number]
        for share in shares
    ]
    assert sorted(block for blocks in owned for block in blocks) == list(range(num_blocks))
    assert max(map(len, owned)) - min(map(len, owned)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "-1/4", "a/b", "1/4/2", "", "1.0/4"])
def test_wrong_shard_is_refused(text):
    with pytest.raises(
        UserError, match=rf"^--shard={text} must be I/N with I from 1 to N, such as"
    ):
        shard.parse(text)


def test_only_a_part_has_names_of_its_own():
    assert shard.parse("1/1") == shard.WHOLE
    assert (shard.WHOLE.suffix, shard.parse("2/4").suffix) == ("", "-2-of-4")
