"""ROUGE-L against a naive table, and the index against a comparison with every text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfevo_jax.data.rouge import RougeIndex, lcs_length, rouge_l, rouge_tokens

TOKENS = st.lists(st.sampled_from("abcde"), max_size=12)


def naive_lcs(one, other):
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@settings(max_examples=300)
@given(TOKENS, TOKENS)
def test_the_longest_common_subsequence_is_that_of_the_naive_table(one, other):
    assert lcs_length(one, other) == naive_lcs(one, other)


@settings(max_examples=100)
@given(st.lists(TOKENS, max_size=12), TOKENS, st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.95]))
def test_the_index_finds_what_a_comparison_with_every_text_finds(texts, new, above):
    index = RougeIndex()
    for text in texts:
        index.add(text)
    scores = [rouge_l(text, new) for text in texts]
    best = max(scores, default=0.0)
    expected = (scores.index(best), best) if best > above else None
    assert index.nearest(new, above) == expected


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't, a_b-c 1.5!", ["don", "t", "a", "b", "c", "1", "5"]),
        ("Café ÜBER alles", ["café", "über", "alles"]),
        ("日本語 text、です", ["日", "本", "語", "text", "で", "す"]),
        (" .,; ", []),
    ],
)
def test_tokens_are_words_in_lower_case_and_single_letters_where_no_space_parts_words(text, tokens):
    assert rouge_tokens(text) == tokens


def test_known_figures():
    one, other = rouge_tokens("the cat sat on the mat"), rouge_tokens("The cat lay on a mat.")
    assert rouge_l(one, other) == pytest.approx(2 * 4 / 12)
    assert (rouge_l([], []), rouge_l(one, []), rouge_l(one, one)) == (0.0, 0.0, 1.0)


def test_a_text_around_another_one_is_found_from_either_side():
    index = RougeIndex()
    index.add(rouge_tokens("How many apples has Mia now?"))
    assert index.around(rouge_tokens("Tell me: how many apples has Mia now, please"), 5) == 0
    assert index.around(rouge_tokens("many apples has Mia"), 4) == 0
    assert index.around(rouge_tokens("many apples has Mia"), 5) is None
    assert index.around(rouge_tokens("how many has Mia apples now then"), 5) is None
