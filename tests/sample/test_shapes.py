import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfevo_jax.sample.shapes import cache_windows, cover, decode_rows, fewest_rows, fit_length_buckets


def padded(lengths: list[int], buckets: tuple[int, ...], longest: int) -> int:
    total = 0
    for length in lengths:
        whole, rest = divmod(length, longest)
        total += whole * longest + (min(b for b in buckets if b >= rest) if rest else 0)
    return total


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.integers(1, 3))
def test_the_buckets_pad_least_of_all_choices(lengths: list[int], most: int) -> None:
    buckets = fit_length_buckets(lengths, most, multiple=8, longest=64, spare=0.0)
    assert 1 <= len(buckets) <= most
    assert all(b % 8 == 0 and b <= 64 for b in buckets)
    sizes = range(8, 65, 8)
    rests = [n % 64 for n in lengths]
    usable = [c for k in range(1, most + 1) for c in itertools.combinations(sizes, k) if max(c) >= max(rests)]
    if any(n >= 64 for n in lengths):
        usable = [c for c in usable if 64 in c]
    assert padded(lengths, buckets, 64) == min(padded(lengths, c, 64) for c in usable)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), st.sampled_from([0.0, 0.06, 0.3]))
def test_there_are_no_more_buckets_than_the_spare_padding_asks_for(lengths: list[int], spare: float) -> None:
    buckets = fit_length_buckets(lengths, most=6, spare=spare)
    least = sum(-(-n // 8) * 8 for n in lengths)
    assert len(buckets) == 6 or padded(lengths, buckets, 512) <= (1 + spare) * least
    if len(buckets) > 1:
        fewer = fit_length_buckets(lengths, most=len(buckets) - 1, spare=0.0)
        assert padded(lengths, fewer, 512) > (1 + spare) * least


def test_no_lengths_give_no_buckets() -> None:
    assert fit_length_buckets([]) == ()


@pytest.mark.parametrize("length", [2, 63, 64, 65, 128, 300, 320, 1000, 1024, 8192])
def test_windows_are_few_and_end_with_the_whole_cache(length: int) -> None:
    windows = cache_windows(length)
    assert len(windows) <= 4
    assert windows[-1] == length
    assert list(windows) == sorted(set(windows))


@given(st.integers(1, 40), st.sampled_from([(8,), (1, 8), (2, 8), (4, 16), (3,)]))
def test_extends_hold_all_rows_at_the_least_cost(count: int, rows: tuple[int, ...]) -> None:
    found = cover(count, rows)
    assert sum(found) >= count
    assert sum(found[:-1]) < count  # none is empty
    cost = sum(found) + 0.5 * len(found)
    assert cost <= min(-(-count // r) * (r + 0.5) for r in rows)


def test_a_refill_of_a_few_slots_is_not_padded_to_many() -> None:
    assert cover(3, (1, 8)) == [1, 1, 1]
    assert cover(7, (1, 8)) == [8]
    assert cover(18, (1, 8)) == [8, 8, 1, 1]


def test_rows_are_as_few_as_make_a_product_worth_its_while() -> None:
    assert [fewest_rows(length, 64) for length in (8, 16, 24, 48, 64, 144)] == [8, 4, 4, 2, 1, 1]


def test_decoding_drains_on_fewer_rows() -> None:
    assert [decode_rows(n) for n in (1, 8, 16, 32, 256)] == [(1,), (8,), (8, 16), (8, 16, 32), (32, 128, 256)]


def test_few_texts_have_no_length_of_their_own_unless_one_is_much_longer() -> None:
    lengths = [20, 24, 31, 40, 52]
    assert len(fit_length_buckets(lengths, most=8, multiple=1)) > 1
    assert fit_length_buckets(lengths, most=8, multiple=1, worth=4096) == (52,)
    assert fit_length_buckets([20] * 20 + [400], most=8, multiple=1, worth=4096) == (20, 400)
