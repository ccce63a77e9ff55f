"""A config for a model and files that are there: what they are is found out, and what they need is filled in."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selfevo_jax.checkpoint import ModelSource, open_model
from selfevo_jax.config import Config, parse_config
from selfevo_jax.data import EvaluationRow, MetaRow, PromptRow
from selfevo_jax.data.annotated import Annotated, annotated
from selfevo_jax.errors import ConfigError, ModelError
from selfevo_jax.judges import JudgeSection, format_for, mt_bench_pair, open_judge, pair_text
from selfevo_jax.methods.lessons import supervised_examples
from selfevo_jax.model import param_count
from selfevo_jax.rounds.generate import chain_tokens
from selfevo_jax.rounds.workbench import select_platform
from selfevo_jax.sample import available_bytes
from selfevo_jax.sharding import make_mesh
from selfevo_jax.start.defaults import BARE, SMALL, Machine, Settings, settings_for
from selfevo_jax.start.found import (
    EXACT,
    LABEL,
    NUMBER,
    OPEN,
    Found,
    Meta,
    find_gold,
    find_meta,
    find_prompts,
    named_sets,
)
from selfevo_jax.start.texts import Spread, Texts, measure_texts
from selfevo_jax.start.written import commented
from selfevo_jax.text import FormatSection, PromptFormat, fitting_format
from selfevo_jax.train import MetaSection

ROUNDS = 3
_ROOM = 1.25
"""Of what the longest texts but one in a hundred take, so that few are cut."""
_MINIMUM_KEPT = 8
"""Rows of a round, of which a quarter of its prompts at most."""
_MULTIPLE, _FEW = 64, 8
"""Of the tokens of rows and slots; of texts."""
_END = "#### "
STEPS = f"{{prompt}}\nSolve it step by step. End with a line '{_END}' and the number."
_NO_META = "D_meta, so M_meta is the model as it is, and must judge its answers by the instruction alone. To teach it, "
_COMMENT_OF_NO_META = (
    f"No {_NO_META}name D_meta in data.meta_skill (`selfevo annotate` makes it with a stronger model on a server, and "
    "`selfevo meta-data` from worked solutions), or data.meta_from_solutions, or data.meta_from_equations, with "
    "meta.epochs in place of meta.steps; or run `selfevo init` again with --meta FILE."
)


@dataclass(frozen=True)
class Given:
    """What `selfevo init` is shown."""

    model: str
    prompts: str
    evaluation: Sequence[str] = ()
    meta: str | None = None
    run_dir: str = "runs/mine"
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of `prompts`, `evaluation` and `meta`: our names of fields -> the file's."""
    tokenizer: str | None = None


@dataclass(frozen=True)
class Made:
    """A config, and what was found out on the way."""

    config: Config
    text: str
    """As YAML, with comments."""
    told: list[str]
    missing: list[str]


def make(given: Given, name: str) -> Made:
    """`name`: of the config file, for the commands in it. Raises SelfevoError for files that cannot be used."""
    select_platform("auto")
    source = open_model(given.model, given.tokenizer)
    prompts, rows = find_prompts(given.prompts, given.columns.get("prompts", {}))
    gold = [find_gold(file, given.columns.get("evaluation", {})) for file in given.evaluation]
    meta = None if given.meta is None else find_meta(given.meta, given.columns.get("meta", {}), 0)
    return _Maker(given, source, prompts, rows, gold, meta).made(name)


class _Maker:
    def __init__(
        self,
        given: Given,
        source: ModelSource,
        prompts: Found,
        rows: Sequence[PromptRow],
        gold: Sequence[tuple[Found, Sequence[EvaluationRow]]],
        meta: Meta | None,
    ) -> None:
        self.given, self.source, self.meta = given, source, meta
        self.prompts, self.rows, self.gold = prompts, rows, gold
        self.told = [prompts.told, *(found.told for found, _ in gold), *([] if meta is None else [meta.told])]
        self.missing: list[str] = []
        self.noted: Annotated | None = None if meta is None else annotated(meta.source)
        """How D_meta's responses were made."""
        self.task = self._task()
        self.judge = self._judge()
        self.steps_alone = False
        """Whether prompts ask for steps that D_meta does not have, so that its lengths are not those of answers."""
        self.format = self._format()
        mesh = make_mesh()
        devices = mesh.devices.flatten().tolist()
        self.machine = Machine(devices[0].platform, len(devices), available_bytes(mesh))

    # --- what it is about

    def _task(self) -> str:
        """The scorer of the first evaluation set; else that of the prompts' own answers; else OPEN."""
        if self.gold:
            kind = self.gold[0][0].kind
            self.told.append(f"task: {_graded(kind)}")
            return kind
        own = find_gold(self.given.prompts, self.given.columns.get("prompts", {}))[0].kind
        of = "" if own == OPEN else ", as in the prompts' own file"
        self.told.append(f"task: {_graded(own)}{of} (guessed)")
        self.missing.append(
            "no evaluation set: nothing will say whether the model gets better; name one with --evaluation FILE, of "
            "prompts that are not among the others"
        )
        return own

    def _judge(self) -> dict[str, Any]:
        if self.meta is not None and self.meta.judge is not None:
            return dict(self.meta.judge)
        return {"kind": "rating"} if self.task == OPEN and self.meta is None else {"kind": "verdict"}

    def _format(self) -> FormatSection:
        """That under which D_meta's responses were sampled, where it is known and can be this model's."""
        found, why = self._known_format(), "as D_meta's responses were sampled"
        if found is None:
            found, reason = fitting_format(self.source.tokenizer, respond=_asked_for(self.task))
            why = reason or "the model's chat template"
        self.told += [f"format: {found.kind} ({why}); a prompt is asked as {json.dumps(found.filled().respond)}"]
        written = [] if self.meta is None else [_END in row.refinement for row in self.meta.examples]
        self.steps_alone = found.respond == STEPS and 2 * sum(written) < len(written)
        if self.steps_alone:
            self.told.append(
                f"format: {sum(written)} of {len(written)} refinements of D_meta have the line '{_END}' that prompts "
                "ask for; where their prompts did not ask for it, set format.respond to what they asked for"
            )
        return found

    def _known_format(self) -> FormatSection | None:
        if self.noted is None or not self.noted.format:
            return None
        try:
            found = FormatSection(**self.noted.format)
            PromptFormat(found, self.source.tokenizer)
        except (ConfigError, ModelError) as error:
            self.told.append(f"format: not that under which D_meta's responses were sampled ({error})")
            return None
        return found

    # --- what it takes

    def made(self, name: str) -> Made:
        judge = open_judge(JudgeSection(**self.judge))
        format = PromptFormat(format_for(judge, self.format), self.source.tokenizer)
        examples: Sequence[MetaRow] = [] if self.meta is None else self.meta.examples
        texts = measure_texts([row.prompt for row in self.rows], examples, format, self.source.tokenizer)
        self.told.append(f"prompts: {texts.prompt}, in the format")
        limits = self._limits(texts)
        tree: dict[str, Any] = {
            "run_dir": self.given.run_dir,
            "seed": 0,
            "model": {"source": self.given.model}
            | ({} if self.given.tokenizer is None else {"tokenizer": self.given.tokenizer}),
            "format": _set_keys(self.format),
            "judge": self.judge,
            "data": self._data(name),
        }
        room = min(self.source.config.positions, self._room(tree, format, texts, limits))
        length = self._row(format, texts, limits, examples)
        s = settings_for(self.source.config, self.machine, length, len(self.rows), ROUNDS)
        tree["data"]["prompts_per_round"] = s.prompts
        if s.evaluation_rows is not None and any(found.rows > s.evaluation_rows for found, _ in self.gold):
            tree["data"]["evaluation_rows"] = s.evaluation_rows
        if not self.machine.is_cpu and self.machine.devices > 1:
            tree["mesh"] = {"fsdp": -1, "data": 1}
        tree["sampling"] = self._sampling(limits, room, s)
        tree["meta"] = self._meta(length, s)
        tree["learn"] = self._training(s.learn_rate, 1, length, s)
        tree["rounds"] = {
            "number": ROUNDS,
            "variant": "continual_mixed",
            "controls": min(32, s.prompts),
            "minimum_kept": min(_MINIMUM_KEPT, max(1, s.prompts // 4)),
        }
        config = parse_config(tree, name)
        return Made(config, commented(tree, self._comments(s, texts), self._head(name)), self.told, self.missing)

    def _limits(self, texts: Texts) -> dict[str, int]:
        """Tokens at most of a response (and refinement) and of feedback; less where the model has not the positions."""
        usual = settings_for(self.source.config, self.machine, _MULTIPLE, 1, 1).responses
        written = [spread for spread in (texts.response, texts.refinement) if spread is not None]
        if not written and self.task != OPEN:
            answers = Spread.of(
                len(self.source.tokenizer.encode_run(str(row.columns["answer"]), prefix=False))
                for _, rows in self.gold
                for row in rows
                if row.columns.get("answer")
            )
            written = [answers] if answers is not None and answers.at(0.99) > usual else []
        respond = max((_fit(spread) for spread in written), default=usual)
        if self.steps_alone:
            respond = max(respond, usual)
        if self._cut is not None:
            respond = max(respond, _up(2 * self._cut, _FEW))
            self.told.append(
                f"lengths: {self._of_cut} when D_meta was made, so how long they would have been is not known; here "
                f"they may have {respond}"
            )
        feedback = usual * 3 // 4 if texts.feedback is None else _fit(texts.feedback)
        most = self.source.config.positions - texts.prompt.at(0.99) - 3 * texts.instruction
        needed = 2 * respond + 2 * feedback
        if needed > most > 0:
            shorter = most / needed
            self.told.append(
                f"lengths: texts of {respond} and {feedback} tokens would not fit into the model's positions; limits "
                f"are {shorter:.0%} of that"
            )
            respond, feedback = (max(_FEW, int(n * shorter)) for n in (respond, feedback))
        return {"respond": respond, "feedback": feedback, "refine": respond}

    @property
    def _cut(self) -> int | None:
        """The limit at which more than one in a hundred of D_meta's responses were cut; None for none."""
        noted = self.noted
        return None if noted is None or 100 * noted.cut <= noted.drawn else noted.limit

    @property
    def _of_cut(self) -> str:
        of = self.noted
        return "" if of is None else f"{of.cut} of {of.drawn} responses were cut at {of.limit} tokens"

    def _room(self, tree: dict[str, Any], format: PromptFormat, texts: Texts, limits: Mapping[str, int]) -> int:
        """Tokens of a slot: a chain whose texts are as long as they may be, and what the base is shown as a judge."""
        stages = {stage: {"max_new_tokens": n} for stage, n in limits.items()}
        counted = parse_config({**tree, "sampling": stages, "meta": {"steps": 0}, "rounds": {"number": 0}})
        longest, usual = texts.prompt.counts[-1], texts.prompt.at(0.99)
        prompt = longest if longest <= _ROOM * usual else usual
        needed = prompt + chain_tokens(counted, format, 1)
        if self.task == OPEN:
            pair = mt_bench_pair()
            judged = [
                len(format.respond(pair_text(pair, row.prompt, ("", ""), True)))
                for _, rows in self.gold
                for row in rows
            ]
            needed = max([needed, *(n + 2 * limits["respond"] + limits["feedback"] for n in judged)])
        return _up(needed, _MULTIPLE)

    def _row(self, format: PromptFormat, texts: Texts, limits: Mapping[str, int], examples: Sequence[MetaRow]) -> int:
        """Tokens of a packed row: the longest example but one in a hundred."""
        needed = [texts.prompt.at(0.99) + limits["respond"]]
        if examples:
            groups = supervised_examples(examples, [], format, MetaSection())
            spread = Spread.of(len(example) for group in groups.values() for example in group)
            assert spread is not None
            longest, usual = spread.counts[-1], spread.at(0.99)
            needed.append(longest if longest <= _ROOM * usual else usual)
        return min(self.source.config.positions, _up(max(needed), _MULTIPLE))

    # --- the sections

    def _data(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {"prompts": self.prompts.section()}
        if self.meta is not None:
            found[self.meta.kind] = self.meta.section()
        else:
            self.missing.append(
                f"no {_NO_META}have a stronger model on a server write D_meta, about other prompts than those of the "
                f"rounds (`selfevo annotate META_PROMPTS.jsonl meta.jsonl --endpoint URL --model NAME --base {name}`), "
                "and run this `selfevo init` again with --meta meta.jsonl --force. A file of worked solutions, or of "
                "word problems with equations, can be its --meta as it is"
            )
        named = named_sets([of for of, _ in self.gold])
        graded = {name: of for name, of in named.items() if of.kind != OPEN}
        opened = {name: of for name, of in named.items() if of.kind == OPEN}
        if graded:
            found["evaluation"] = {
                name: of.section(**({} if of.kind == NUMBER else {"scorers": [of.scorer]}))
                for name, of in graded.items()
            }
        if opened:
            small = {"brief": True} if param_count(self.source.config) < SMALL else {}
            found["open_ended"] = {name: of.section(**small) for name, of in opened.items()}
        return found

    def _sampling(self, limits: Mapping[str, int], room: int, s: Settings) -> dict[str, Any]:
        dtype = {} if s.dtype == "float32" else {"dtype": s.dtype}
        heat = {"respond": 0.7, "feedback": 0.7 if self.task == OPEN else 0.0, "refine": 0.0}
        stages = {stage: {"temperature": heat[stage], "max_new_tokens": n} for stage, n in limits.items()}
        return {"slots": None, "cache_length": room, **dtype, **stages}

    def _meta(self, length: int, s: Settings) -> dict[str, Any]:
        if self.meta is None:
            return {"steps": 0}
        return self._training(s.meta_rate, s.meta_epochs, length, s)

    def _training(self, rate: float, epochs: int, length: int, s: Settings) -> dict[str, Any]:
        found: dict[str, Any] = {"epochs": epochs, "learning_rate": rate, "batch_rows": s.rows, "length": length}
        if s.dtype != "float32":
            found["compute_dtype"] = s.dtype
        if s.remat != "none":
            found["remat"] = s.remat
        if s.lora:
            found["lora"] = {"rank": 16}
        return found

    # --- what is said beside it

    def _comments(self, s: Settings, texts: Texts) -> dict[str, str]:
        model = self.source.config
        found = {
            "run_dir": "all that a run makes; the same command goes on with it",
            "model.source": f"{param_count(model):,} parameters, {model.positions:,} positions",
            "format.kind": "the model's own chat template" if self.format.kind == "chat" else "texts around the prompt",
            "format.respond": "how each prompt is asked; D_meta's responses should be sampled so, too "
            "(selfevo annotate --base THIS_FILE)",
            "judge": "what the model's own feedback ends in",
            "data.prompts": "unlabeled: an answer beside them is never read in a round",
            "data.evaluation": "gold answers, read to measure alone; none of these prompts is one of the others",
            "data.open_ended": "prompts without gold answers: the base judges, beside its own answers",
            "data.prompts_per_round": f"of {len(self.rows):,}",
            "data.evaluation_rows": "of each set, so that measuring takes no longer than a round on this CPU",
            "sampling.slots": "as many as fit in memory, and help",
            "sampling.cache_length": f"tokens of prompt, response, feedback and refinement together; prompts have "
            f"{texts.prompt.at(0.5)} in the middle, {texts.prompt.counts[-1]} at most",
            "learn": "the fine-tuning inside each round",
            "learn.epochs": "over D_self, and D_meta beside it, each example as often as any other",
            "learn.learning_rate": "usual for this size; lower it where a loss is not finite, or feedback is forgotten",
            "learn.length": "tokens of a packed row; longer examples are dropped, and counted",
            "rounds.variant": "go on from the round before; `restart` trains from the base each round",
            "rounds.controls": "answers made wrong on purpose, to see what the critic lets pass",
            "rounds.minimum_kept": "with fewer kept rows a round is not trained, and the run ends with the counts",
        }
        if self._cut is not None:
            found["sampling.respond"] = f"{self._of_cut} when D_meta was made"
        elif texts.response is not None:
            found["sampling.respond"] = f"D_meta's have {texts.response.at(0.99)} tokens but for one in a hundred"
        if self.meta is None:
            found["meta"] = _COMMENT_OF_NO_META
        else:
            found["meta"] = "meta-skill learning: the model learns from D_meta to judge and to refine"
            found[f"data.{self.meta.kind}"] = "D_meta: how to judge and refine"
        if s.lora:
            found["learn.lora"] = f"adapters alone: {s.why_lora}"
        return found

    def _head(self, name: str) -> list[str]:
        name = shlex.quote(name)
        return [
            f"Written by `selfevo init` for {self.given.model}. Settings to begin with: change what you know better.",
            f"  selfevo evolve {name} --check      what would stop the run, and how long a round takes",
            f"  selfevo evolve {name}              the run; the same command goes on where it was stopped",
            "Paths are relative to where selfevo is started.",
        ]


def _graded(kind: str) -> str:
    return "open-ended prompts" if kind == OPEN else f"answers that the scorer '{kind}' can grade"


def _asked_for(task: str) -> str | None:
    """How a chat model is asked for answers that the task's scorer can grade; None: by the prompt alone."""
    return {NUMBER: STEPS, EXACT: BARE, LABEL: BARE}.get(task)


def _fit(spread: Spread) -> int:
    """A limit that cuts few texts."""
    return _up(math.ceil(_ROOM * spread.at(0.99)), _FEW)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _set_keys(format: FormatSection) -> dict[str, Any]:
    """The keys of a format that are not those of its kind."""
    usual, found = (of.filled().model_dump(mode="json") for of in (FormatSection(kind=format.kind), format))
    return {"kind": format.kind} | {key: value for key, value in found.items() if value != usual[key]}
