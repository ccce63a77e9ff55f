"""Counting stories: the embedded task of the quickstart.

A story has a name, a thing, a start and a few changes. The *response* is the bare answer; the *feedback* works the
story out step by step, compares, and ends in a verdict; the *refinement* is the corrected answer. The critic thus
counts in its feedback what the answerer must know at once, and it is that gap that the rounds distil.

A skeleton is a start and its signed changes, without name, thing and words. Every skeleton belongs to one split, by a
hash, so D_meta, prompts, development and test stories never share one.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from selfevo_jax.errors import DataError

Split = Literal["meta", "prompts", "development", "test"]
Skeleton = tuple[int, ...]
"""The start, then each change with its sign."""

LARGEST = 20
"""No count along a story is larger, and none is negative."""
LARGEST_START = 20
LARGEST_CHANGE = 9

NAMES = ("Mia", "Tom", "Ana", "Ben", "Eva", "Leo", "Zoe", "Max")
THINGS = ("apples", "coins", "books", "shells", "cards", "stamps")
GAINS = ("buys", "finds", "gets", "wins")
LOSSES = ("eats", "loses", "sells", "drops")

RESPOND, JUDGE, REFINE = "{prompt}\nAnswer:", "\nFeedback:", "\nRevision:"
"""The prompt format of the task (`format` in the config); each suffix is one token."""

_SPLITS: tuple[Split, ...] = ("meta", "development", "test")
_BUCKETS = 16  # three of sixteen are kept apart; the others are prompts
_ANSWER = re.compile(r"The answer is (\d+)\.")
_STORY = re.compile(r"\w+ has (\d+) \w+\.(.*) How many now\?", re.DOTALL)
_CHANGE = re.compile(r" Then \w+ (\w+) (\d+)\.")


@dataclass(frozen=True)
class Story:
    """A question with its skeleton and its true answer (`answer` is read by the annotator and by evaluation alone)."""

    id: str
    text: str
    skeleton: Skeleton
    answer: int


def split_of(skeleton: Sequence[int]) -> Split:
    """The split that a skeleton belongs to: a pure function of its numbers."""
    digest = hashlib.blake2b(",".join(map(str, skeleton)).encode(), digest_size=4).digest()
    bucket = int.from_bytes(digest, "big") % _BUCKETS
    return _SPLITS[bucket] if bucket < len(_SPLITS) else "prompts"


def draw_skeleton(rng: random.Random, changes: int) -> Skeleton:
    """A start of 1 to LARGEST_START and `changes` changes that keep the count within 0 to LARGEST."""
    count = rng.randint(1, LARGEST_START)
    skeleton = [count]
    for _ in range(changes):
        gain = count == 0 or (count < LARGEST and rng.random() < 0.5)
        size = rng.randint(1, min(LARGEST_CHANGE, LARGEST - count if gain else count))
        skeleton.append(size if gain else -size)
        count += skeleton[-1]
    return tuple(skeleton)


def tell(rng: random.Random, skeleton: Skeleton) -> str:
    """A story in words around a skeleton."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    changes = [f"Then {name} {rng.choice(GAINS if d > 0 else LOSSES)} {abs(d)}." for d in skeleton[1:]]
    return " ".join([f"{name} has {skeleton[0]} {thing}.", *changes, "How many now?"])


def read_skeleton(text: str) -> Skeleton | None:
    """The skeleton of a story's text, or None where the text is no counting story."""
    match = _STORY.fullmatch(text)
    if match is None:
        return None
    changes = _CHANGE.findall(match[2])
    return (int(match[1]), *(int(size) if verb in GAINS else -int(size) for verb, size in changes))


def make_stories(split: Split, n: int, *, changes: int = 3, seed: int = 0) -> list[Story]:
    """`n` stories of a split, without two of the same text; a pure function of its arguments.

    Raises DataError when the split does not seem to have so many.
    """
    rng = random.Random(f"{split}/{changes}/{seed}")
    found: dict[str, Story] = {}
    for _ in range(1000 * n + 1):
        if len(found) == n:
            return list(found.values())
        skeleton = draw_skeleton(rng, changes)
        if split_of(skeleton) != split:
            continue
        text = tell(rng, skeleton)
        if text not in found:
            name = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
            found[text] = Story(f"{split}-{name}", text, skeleton, sum(skeleton))
    raise DataError(
        "data.stories", None, "changes", f"{changes} changes give {len(found)} stories of the {split} split, not {n}"
    )


@functools.cache
def space_size(changes: int, split: Split | None = None) -> int:
    """The number of skeletons with so many changes, of one split or of all."""

    def grow(skeleton: Skeleton, left: int) -> int:
        if left == 0:
            return int(split is None or split_of(skeleton) == split)
        count = sum(skeleton)
        lowest, highest = max(-LARGEST_CHANGE, -count), min(LARGEST_CHANGE, LARGEST - count)
        return sum(grow((*skeleton, d), left - 1) for d in range(lowest, highest + 1) if d)

    return sum(grow((start,), changes) for start in range(1, LARGEST_START + 1))


def check_disjoint(**splits: Iterable[str]) -> None:
    """Raises DataError where two of the named lists of story texts share a skeleton."""
    owner: dict[Skeleton, tuple[str, str]] = {}
    for name, texts in splits.items():
        for text in texts:
            skeleton = read_skeleton(text)
            if skeleton is None:
                continue
            first, other = owner.setdefault(skeleton, (name, text))
            if first != name:
                raise DataError(
                    name, None, "prompt", f"{text!r} shares its start and changes with {other!r} of {first}"
                )


# --- the annotator: texts of D_meta


def answer_text(answer: int) -> str:
    """The response: the bare answer."""
    return f"The answer is {answer}."


def read_answer(text: str) -> int | None:
    """The number a response gives, or None where it is not of the response's form."""
    match = _ANSWER.fullmatch(text.strip())
    return int(match[1]) if match else None


def count_aloud(skeleton: Skeleton) -> str:
    """`7 plus 5 is 12. 12 minus 3 is 9.`"""
    count, steps = skeleton[0], []
    for d in skeleton[1:]:
        steps.append(f"{count} {'plus' if d > 0 else 'minus'} {abs(d)} is {count + d}.")
        count += d
    return " ".join(steps)


def compare(given: int, right: int) -> str:
    return f"The answer {given} should be {right}. So {'right' if given == right else 'wrong'}."


def feedback_text(story: Story, response: str) -> tuple[str, bool] | None:
    """The annotator's feedback on a response and whether it is right; None where the response gives no number."""
    given = read_answer(response)
    if given is None:
        return None
    good = given == story.answer
    verdict = "Verdict: correct." if good else "Verdict: incorrect."
    return f"{count_aloud(story.skeleton)} {compare(given, story.answer)} {verdict}", good


# --- the base corpus: what the base knows before any feedback

Pieces = list[tuple[str, float]]
"""Text in pieces that begin at a word, each with the loss weight of its tokens; the last piece is followed by EOS."""

_DIM = 0.05
"""Weight of tokens that are random or copied: nearly all of the loss is then on what has to be computed."""


def _off_by_little(rng: random.Random, right: int) -> int:
    if rng.random() < 0.45:
        return right
    if rng.random() < 0.6:
        return min(LARGEST, max(0, right + rng.choice((-3, -2, -1, 1, 2, 3))))
    return rng.randint(0, LARGEST)


def _counting(skeleton: Skeleton) -> Pieces:
    count, pieces = skeleton[0], []
    for index, d in enumerate(skeleton[1:]):
        pieces.append((f"{count}", 1.0 if index else _DIM))
        pieces.append((f"{'plus' if d > 0 else 'minus'} {abs(d)}", _DIM))
        count += d
        pieces.append((f"is {count}.", 1.0))
    return pieces


def base_document(rng: random.Random, story_changes: Sequence[int] = (1, 2), most: int = 4) -> Pieces:
    """A document of the base corpus: a short story and its answer, a sum in the head, counting, or checked homework.

    The base never sees a story with feedback. Skeletons of development and test are left out.
    """
    kind = rng.random()
    if kind < 0.3:
        skeleton = _base_skeleton(rng, rng.choice(story_changes))
        return [(RESPOND.format(prompt=tell(rng, skeleton)), _DIM), (answer_text(sum(skeleton)), 1.0)]
    if kind < 0.6:
        skeleton = _base_skeleton(rng, rng.randint(2, most))
        terms = [f"{'plus' if d > 0 else 'minus'} {abs(d)}" for d in skeleton[1:]]
        return [(" ".join([str(skeleton[0]), *terms]), _DIM), (f"is {sum(skeleton)}.", 1.0)]
    if kind < 0.75:
        skeleton = _base_skeleton(rng, rng.randint(1, most))
        end: Pieces = [(answer_text(sum(skeleton)), 1.0)] if rng.random() < 0.5 else []
        return [*_counting(skeleton), *end]
    skeleton = _base_skeleton(rng, rng.randint(0, 3))
    right = sum(skeleton)
    given = _off_by_little(rng, right)
    return [
        *_counting(skeleton),
        (f"The answer {given} should be", _DIM),
        (f"{right}.", 1.0 if len(skeleton) > 1 else _DIM),
        ("So", _DIM),
        (f"{'right' if given == right else 'wrong'}.", 1.0),
    ]


def _base_skeleton(rng: random.Random, changes: int) -> Skeleton:
    while True:
        skeleton = draw_skeleton(rng, changes)
        if split_of(skeleton) in ("meta", "prompts"):
            return skeleton


def base_corpus(seed: int, story_changes: Sequence[int] = (1, 2)) -> Iterator[Pieces]:
    """Endless documents; a pure function of its arguments."""
    rng = random.Random(f"base/{seed}")
    while True:
        yield base_document(rng, story_changes)


def vocabulary() -> list[str]:
    """The words that are one token each, with the space before them."""
    words = [str(n) for n in range(LARGEST + 1)]
    words += [*NAMES, *THINGS, *GAINS, *LOSSES]
    words += ["has", "Then", "How", "many", "now", "The", "answer", "is", "plus", "minus", "should", "be", "So"]
    words += ["right", "wrong", "Verdict:", "correct", "incorrect"]
    return ["\u2581" + word for word in words] + [
        suffix.removeprefix("{prompt}") for suffix in (RESPOND, JUDGE, REFINE)
    ]


def train_tokenizer() -> bytes:
    """A SentencePiece model (bytes of a `.model` file): one token a word, and single ASCII characters for all else."""
    import io

    import sentencepiece

    out = io.BytesIO()
    ascii_text = "".join(chr(code) for code in range(32, 127))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([ascii_text] * 4),
        model_writer=out,
        model_type="char",
        vocab_size=len(vocabulary()) + 3 + len(ascii_text) + 2,
        hard_vocab_limit=False,
        user_defined_symbols=[*vocabulary(), "\n"],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        minloglevel=2,
    )
    return out.getvalue()
