"""The counting stories: splits, texts, the annotator, the base corpus and its tokenizer."""

import itertools
import json
import random
import string

import pytest
import sentencepiece

from selfevo_jax.data.objects import ASSETS
from selfevo_jax.errors import DataError
from selfevo_jax.tasks.stories import generate as stories


@pytest.fixture(scope="module")
def words() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=stories.train_tokenizer())


def test_every_skeleton_belongs_to_one_split_and_the_splits_share_none() -> None:
    splits = {s: stories.make_stories(s, 400, changes=3, seed=1) for s in ("meta", "prompts", "development", "test")}
    stories.check_disjoint(**{name: [s.text for s in rows] for name, rows in splits.items()})
    sizes = [stories.space_size(2, s) for s in ("meta", "prompts", "development", "test")]
    assert sum(sizes) == stories.space_size(2)
    assert all(stories.split_of(s.skeleton) == name for name, rows in splits.items() for s in rows)


def test_three_rounds_of_prompts_cover_less_than_a_tenth_of_the_allowed_skeletons() -> None:
    assert stories.space_size(3, "prompts") / 10 > 3 * 1024


def test_space_size_counts_what_the_generator_can_draw() -> None:
    rng = random.Random(0)
    drawn = {stories.draw_skeleton(rng, 1) for _ in range(20000)}
    assert len(drawn) == stories.space_size(1)


def test_a_shared_skeleton_is_refused_even_in_other_words() -> None:
    a = "Mia has 7 shells. Then Mia finds 5. Then Mia sells 3. How many now?"
    b = "Tom has 7 coins. Then Tom wins 5. Then Tom eats 3. How many now?"
    with pytest.raises(DataError, match="shares its start and changes"):
        stories.check_disjoint(prompts=[a], test=[b])
    stories.check_disjoint(prompts=[a], test=[b.replace("eats 3", "eats 4"), "Another kind of question?"])


def test_stories_are_a_pure_function_of_split_changes_and_seed() -> None:
    first = stories.make_stories("test", 50, seed=3)
    assert first == stories.make_stories("test", 50, seed=3)
    assert first != stories.make_stories("test", 50, seed=4)
    assert first[:20] == stories.make_stories("test", 20, seed=3)


def test_the_text_alone_gives_skeleton_and_answer() -> None:
    for story in stories.make_stories("prompts", 300, changes=3):
        numbers = stories.read_skeleton(story.text)
        assert numbers == story.skeleton
        running = list(itertools.accumulate(story.skeleton))
        assert running[-1] == story.answer
        assert min(running) >= 0
        assert max(running) <= stories.LARGEST


def test_feedback_counts_compares_and_ends_in_the_verdict() -> None:
    story = stories.Story("x", "", (7, 5, -3), 9)
    assert stories.feedback_text(story, "The answer is 9.") == (
        "7 plus 5 is 12. 12 minus 3 is 9. The answer 9 should be 9. So right. Verdict: correct.",
        True,
    )
    assert stories.feedback_text(story, "The answer is 10.") == (
        "7 plus 5 is 12. 12 minus 3 is 9. The answer 10 should be 9. So wrong. Verdict: incorrect.",
        False,
    )
    assert stories.feedback_text(story, "shells shells") is None


def test_every_word_and_number_is_one_token_with_natural_spacing(words: sentencepiece.SentencePieceProcessor) -> None:
    story = stories.make_stories("test", 1)[0]
    feedback = stories.feedback_text(story, "The answer is 3.")
    assert feedback is not None
    for text in (story.text, feedback[0], stories.answer_text(story.answer)):
        ids = words.encode(text)
        assert words.decode(ids) == text
        assert len(ids) == len(text.split()) + text.count(".") + text.count("?")


def test_any_ascii_text_encodes(words: sentencepiece.SentencePieceProcessor) -> None:
    text = string.ascii_letters + string.digits + string.punctuation + "  two spaces\nand a line"
    assert words.unk_id() not in words.encode(text)
    assert words.decode(words.encode(text)) == text
    assert (words.bos_id(), words.eos_id(), words.pad_id()) == (1, 2, 3)


def test_base_documents_hold_no_feedback_and_no_held_out_skeleton() -> None:
    for pieces in itertools.islice(stories.base_corpus(seed=5), 2000):
        text = " ".join(piece for piece, _ in pieces)
        assert "Verdict" not in text
        assert "Feedback" not in text
        if "\nAnswer:" in text:
            skeleton = stories.read_skeleton(text.split("\nAnswer:")[0])
            assert skeleton is not None
            assert stories.split_of(skeleton) in ("meta", "prompts")
            assert len(skeleton) < 4, "a base story has fewer changes than the task"


def test_pieces_tokenize_as_the_whole_text_does(words: sentencepiece.SentencePieceProcessor) -> None:
    for pieces in itertools.islice(stories.base_corpus(seed=6), 200):
        apart = [token for piece, _ in pieces for token in words.encode(piece)]
        assert apart == words.encode(" ".join(piece for piece, _ in pieces))


def test_the_shipped_base_is_small_and_has_the_vocabulary_of_the_generator(
    words: sentencepiece.SentencePieceProcessor,
) -> None:
    folder = ASSETS / "stories"
    shipped = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert [shipped.id_to_piece(i) for i in range(len(shipped))] == [words.id_to_piece(i) for i in range(len(words))]
    assert (folder / "model.safetensors").stat().st_size <= 4_000_000
    assert json.loads((folder / "model.json").read_text())["vocab_size"] == len(shipped)
