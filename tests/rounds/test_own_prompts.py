"""Rounds whose prompts the model writes itself: what is asked, kept, counted, and there again after a kill."""

import contextlib
import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from loop_helpers import Heard, config, run

from selfevo_jax import notice
from selfevo_jax.data import PromptRow
from selfevo_jax.errors import ConfigError, DataError, EmptySelectionError, Preempted
from selfevo_jax.progress import counted
from selfevo_jax.report import status, summarize, tables
from selfevo_jax.rounds.loop import Loop
from selfevo_jax.rounds.prompts import Writing, check_writing, expected, first_asks, prompts_of, write_own
from selfevo_jax.rounds.survey import run_phases, survey
from selfevo_jax.rounds.workbench import open_workbench
from selfevo_jax.run import RunDir, share, verify
from selfevo_jax.run.journal import Journal
from selfevo_jax.sample import Completion
from selfevo_jax.text import FormatSection, PromptFormat

WORDS = ["amber", "birch", "cedar", "daisy", "ember", "fern", "grape", "hazel", "iris", "jade", "kelp", "lemon"]
GIVEN = [f"Say {one} and {other}" for one, other in zip(WORDS, WORDS[3:], strict=False)]
ASKED = {"examples": 3, "own_examples": 1, "asked": 2, "at_once": 3, "patience": 3, "given_share": 0.25}
FILES = ("texts.jsonl", "written.jsonl", "manifest.json")
EVALUATED = "Tell me which of all the trees grows fastest"


def own(root: Path, **changes: object):
    settings = {**ASKED, **{key: value for key, value in changes.items() if key in (*ASKED, "from_round", "seeds")}}
    others = {key: value for key, value in changes.items() if key not in settings}
    return config(root, data__self_written=settings, sampling__write={"max_new_tokens": 16}, **others)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return open_workbench(own(tmp_path_factory.mktemp("own") / "run"))


def two_new(id: str) -> str:
    """Two prompts that are like no other."""
    word = id.translate(str.maketrans("0123456789-", "abcdefghijk"))
    return "\n5. ".join(" ".join(f"{word}{letter}{n}" for n in range(5)) for letter in "xy")


class Played:
    """A workbench whose model is played; it dies after so many texts."""

    def __init__(self, bench, say=two_new, dies=None):
        self.format, self.tokenizer, self.config, self.engine = (
            bench.format,
            bench.tokenizer,
            bench.config,
            bench.engine,
        )
        self.say, self.dies, self.asked = say, dies, {}

    def run(self, params, chains, reporter, title, on_done):
        for chain in chains:
            request = chain.next(None)
            self.asked[chain.id] = self.tokenizer.decode(request.tokens), params
            chain.next(Completion((1,), self.say(chain.id), (0.0,), "stop_string"))
            on_done(chain)
            if len(self.asked) == self.dies:
                raise KeyboardInterrupt


@contextlib.contextmanager
def opened(bench, root: Path, **changes: object):
    """A loop with a played model and a run directory of its own."""
    played = Played(bench, **{key: changes.pop(key) for key in ("say", "dies") if key in changes})
    c, rows = own(root, **changes), [PromptRow(f"p{i}", prompt) for i, prompt in enumerate(GIVEN)]
    task = SimpleNamespace(
        prompts=lambda round: rows,
        qa_rows=lambda: [],
        has_meta=False,
        evaluation=lambda: {"held": SimpleNamespace(rows=[PromptRow("h", EVALUATED)], votes=True)},
        questions=lambda: None,
    )
    dir = RunDir(root)
    dir.open(c, {})
    try:
        yield Loop(c, Heard(), task, dir, played, SimpleNamespace(decoding=lambda name: name))
    finally:
        dir.close()


def made(root: Path, round: int = 2) -> dict[str, bytes]:
    return {name: (root / f"rounds/{round:04d}/prompts" / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def undisturbed(bench, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    with opened(bench, root) as loop:
        assert write_own(loop, 1) is None
        write_own(loop, 2)
    return made(root)


def test_a_round_has_given_prompts_and_those_that_the_checkpoint_before_it_wrote(bench, tmp_path):
    with opened(bench, tmp_path / "run") as loop:
        assert [row.id for row in prompts_of(loop, 1)] == [f"p{i}" for i in range(len(GIVEN))]
        rows = prompts_of(loop, 2)
        assert [row.id for row in rows[:4]] == ["p0", "p1", "p2", "p3"]  # a quarter of 16
        assert len({row.id for row in rows}) == len(rows) == 16
        assert all(row.id.startswith("written-") for row in rows[4:])
        assert {params for _, params in loop.bench.asked.values()} == {"0001"}
        assert prompts_of(loop, 2) == rows
        earlier = {row.prompt for row in rows[4:]}
        asked = len(loop.bench.asked)
        third = prompts_of(loop, 3)
        shown = [text for text, params in loop.bench.asked.values() if params == "0002"]
        assert len(shown) == len(loop.bench.asked) - asked > 0
        assert all(sum(prompt in text for prompt in earlier) >= 1 for text in shown[:3])
        assert not earlier & {row.prompt for row in third}


@pytest.mark.parametrize("dies", [1, 4, 6])
def test_a_kill_at_any_text_ends_in_the_same_bytes_and_asks_for_nothing_twice(bench, undisturbed, tmp_path, dies):
    root = tmp_path / "run"
    with opened(bench, root, dies=dies) as loop, pytest.raises(KeyboardInterrupt):
        write_own(loop, 2)
    first = set(loop.bench.asked)
    assert verify(RunDir(root)).faults == []
    assert (root / "rounds/0002/prompts/texts.jsonl").read_bytes().count(b"\n") == dies
    found = {phase.name: phase for phase in status(RunDir(root)).phases}["round 2: prompts"]
    assert (found.state, found.detail) == ("partly", f"{counted(dies, 'text')} for 12 prompts")
    with opened(bench, root) as loop:
        write_own(loop, 2)
    assert f"  {dies} texts with prompts are kept" in loop.reporter.lines
    assert not first & set(loop.bench.asked)
    assert made(root) == undisturbed


@pytest.mark.parametrize("unwritten", FILES[1:])
def test_a_kill_between_the_files_of_the_phase_ends_in_the_same_bytes(
    bench, undisturbed, tmp_path, monkeypatch, unwritten
):
    write = RunDir.write

    def dying(self, path, make):
        if path.name == unwritten:
            raise KeyboardInterrupt
        write(self, path, make)

    root = tmp_path / "run"
    with monkeypatch.context() as patched, opened(bench, root) as loop:
        patched.setattr(RunDir, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            write_own(loop, 2)
    with opened(bench, root, dies=1) as loop:
        write_own(loop, 2)
    assert loop.bench.asked == {}
    assert made(root) == undisturbed
    assert verify(RunDir(root)).faults == []


@pytest.mark.parametrize("name", FILES)
def test_a_finished_file_of_the_phase_that_is_taken_away_is_made_anew_as_it_was(bench, undisturbed, tmp_path, name):
    root = tmp_path / "run"
    with opened(bench, root) as loop:
        write_own(loop, 2)
    (root / "rounds/0002/prompts" / name).unlink()
    assert any(name in fault for fault in verify(RunDir(root)).faults)
    with opened(bench, root) as loop:
        write_own(loop, 2)
        assert not loop.dir.lost()
    assert bool(loop.bench.asked) == (name == "texts.jsonl")
    assert made(root) == undisturbed


def test_what_is_refused_is_counted_and_a_row_of_an_evaluation_set_is_no_prompt(bench, tmp_path):
    def say(id: str) -> str:
        return f"{EVALUATED.upper()}\n5. {GIVEN[0]}" if id.endswith("0") else two_new(id)

    with opened(bench, tmp_path / "run", say=say) as loop:
        found = write_own(loop, 2)
        assert EVALUATED.upper() not in [row.prompt for row in prompts_of(loop, 2)]
    assert found.to_dict()["refused"] == dict.fromkeys(found.to_dict()["refused"], 0) | {"evaluation": 1, "copy": 1}
    assert json.loads((tmp_path / "run/rounds/0002/prompts/manifest.json").read_text()) == found.to_dict()
    assert "  round 2: 7 texts held 14 prompts: 12 kept, 1 copies, 1 of an evaluation set" in loop.reporter.lines
    done = {phase.name: phase for phase in status(RunDir(tmp_path / "run")).phases}["round 2: prompts"]
    assert done.detail == "12 of 12 written in 7 texts; refused 1 copy, 1 evaluation"


def test_with_fewer_prompts_a_round_goes_on_and_with_too_few_it_stops_before_it_samples(bench, tmp_path):
    with opened(bench, tmp_path / "some", say=lambda id: "") as loop:
        assert len(prompts_of(loop, 2)) == 4
        write_own(loop, 2)
    assert loop.reporter.lines[-1].startswith(
        "warning: round 2: the model wrote 0 of 12 prompts (18 texts held 0 prompts: 0 kept; 18 texts held none); the "
        "round goes on with 4 prompts. A longer list of seeds"
    )
    few = {"number": 2, "select": "none", "minimum_kept": 5}
    with opened(bench, tmp_path / "few", say=lambda id: "", rounds=few) as loop:
        for _ in range(2):
            with pytest.raises(
                EmptySelectionError, match=r"with 4 given ones the round can keep 4 rows at most, expecte"
            ):
                write_own(loop, 2)
        assert len(loop.bench.asked) == 18


def test_a_round_that_a_fork_has_kept_with_given_prompts_writes_none_later(bench, tmp_path):
    with opened(bench, tmp_path / "run") as loop:
        write_own(loop, 3)
        assert {params for _, params in loop.bench.asked.values()} == {"0002"}
    assert not (tmp_path / "run/rounds/0002").exists()


def test_the_model_goes_on_with_the_examples_as_a_text_and_stops_behind_what_was_asked_for(bench):
    writing = Writing.of(bench, bench.config.data.self_written)
    ask = SimpleNamespace(id="0-2-7", text="Tasks:\n1. a\n2. b\n3. c\n4.", first=4)
    request = writing.chain(ask, 2).next(None)
    assert bench.tokenizer.decode(request.tokens) == ask.text
    assert request.params.stop_strings == ("\n6.",)
    assert (request.params.temperature, request.params.max_new_tokens) == (0.7, 16)
    assert (request.key.round, request.key.stage, request.key.prompt_id) == (2, "write", "0-2-7")
    turns = bench.config.data.self_written.model_copy(update={"as_text": False})
    with pytest.raises(ConfigError, match=r"as_text: false, but format.kind is plain"):
        Writing.of(bench, turns)


def test_a_chat_model_is_asked_in_a_turn_without_what_is_put_around_other_prompts_or_with_a_bare_text(bench):
    tokenizer = copy.copy(bench.tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    section = FormatSection(kind="chat", system="Be brief.", respond="{prompt} Think first.")
    chat = SimpleNamespace(format=PromptFormat(section, tokenizer), tokenizer=tokenizer, config=bench.config)
    ask, own = SimpleNamespace(id="a", text="Tasks:\n1. a\n4.", first=4), bench.config.data.self_written

    def shown(as_text: bool | None) -> str:
        writing = Writing.of(chat, own.model_copy(update={"as_text": as_text}))
        return tokenizer.decode(writing.chain(ask, 2).next(None).tokens)

    assert shown(None) == "[system] Be brief.\n[user] Tasks:\n1. a\n4.\n[assistant] "
    assert shown(True) == ask.text


def test_what_can_be_seen_before_a_run_is_said_at_its_start(bench, tmp_path):
    with opened(bench, tmp_path / "run") as loop:
        config, task, played = loop.config, loop.task, loop.bench

    def said(room: int) -> str | None:
        sampling = config.sampling.model_copy(update={"cache_length": room})
        return check_writing(config.model_copy(update={"sampling": sampling}), task, played)

    assert said(400) is None
    assert "of the first 3 texts with prompts have no room for sampling.write.max_new_tokens 16" in said(110)
    with pytest.raises(
        ConfigError, match=r"examples that the model is shown take \d+ tokens or more, but sampling.cac"
    ):
        said(20)
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in [*GIVEN, EVALUATED]))
    with pytest.raises(DataError, match=r"1 of its 1 prompts are also in data.self_written.seeds"):
        check_writing(own(tmp_path / "run", seeds=str(seeds)), task, played)


def test_the_sampler_s_shapes_know_of_prompts_that_are_not_written_yet(bench, tmp_path):
    with opened(bench, tmp_path / "run") as loop:
        task = loop.task
    rows = expected(bench.config, task, 2)
    assert len(rows) == 16
    assert {row.prompt for row in rows} <= set(GIVEN)
    writing = Writing.of(bench, bench.config.data.self_written)
    asks = first_asks(bench.config, task, bench.config.data.self_written)
    assert {len(writing.format.respond(ask.text)) for ask in asks} & set(survey(bench, run_phases(bench, task)))
    long = bench.config.data.self_written.model_copy(update={"most_words": 3, "least_words": 1})
    bounded = bench.config.model_copy(
        update={"data": bench.config.data.model_copy(update={"self_written": long})},
    )
    assert max(len(row.prompt.split()) for row in expected(bounded, task, 2)[4:]) == 3


@pytest.mark.slow
def test_a_run_whose_model_writes_goes_on_from_another_one_s_first_round_and_through_a_notice(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    c = own(root, given_share=0.5, patience=1)
    taken = share(c, [RunDir(finished)], Heard())
    assert [one.artefact for one in taken][-1] == "evaluation of M_1"
    append = Journal.append

    def append_and_tell(self: Journal, row: dict) -> None:
        append(self, row)
        if self.path.name == "texts.jsonl":
            notice.give("a test")

    with monkeypatch.context() as patched, notice.heeded():
        patched.setattr(Journal, "append", append_and_tell)
        with pytest.raises(Preempted, match="while round 2: write prompts"):
            run(c)
    heard = run(c)
    assert any(line.endswith("texts with prompts are kept") for line in heard.lines)
    folder = root / "rounds/0002/prompts"
    told = json.loads((folder / "manifest.json").read_text())
    texts = (folder / "texts.jsonl").read_bytes().splitlines()
    assert told["wanted"] == told["given"] == 8
    assert told["texts"] == len(texts) == len({json.loads(text)["id"] for text in texts}) == 4
    assert told["prompts"] + sum(told["refused"].values()) + told["empty"] >= 4
    metrics = json.loads((root / "rounds/0002/metrics.json").read_text())
    assert metrics["written"] == told
    assert metrics["counts"]["sampled"] == 8 + told["prompts"]
    costs = [json.loads(line) for line in (root / "costs.jsonl").read_text().splitlines()]
    assert sum(cost["compiles"] for cost in costs) == 0
    assert sum(cost["chains"] for cost in costs if cost["phase"] == "round 2: write prompts") <= 4
    summary = summarize(RunDir(root))
    assert summary.complete
    assert summary.rows[-1].written == told
    assert any("model wrote itself" in str(table.title) for table in tables(summary))
    assert verify(RunDir(root)).faults == []
