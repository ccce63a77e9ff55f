"""Our objectives beside TRL's, on one tiny Llama and the same answers: losses and gradients in fp32.

    pip install trl          # in an environment of its own, beside this package and torch for CPUs
    python benchmarks/objectives_against_trl.py

TRL's own loss functions are called, those of its trainers, on a model of `transformers` with TRL's head; ours with
packed rows, stored references and the fused head. The reference is another model than the one that is trained, so that
no term is 0. Gradients are compared as a whole: the largest difference over the largest entry.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.utils import add_fused_lm_head

from selfevo_jax.checkpoint import read_huggingface
from selfevo_jax.data import Batch, Example, Group, Unit, pack
from selfevo_jax.data.packing import fill_rows
from selfevo_jax.model import ModelConfig
from selfevo_jax.sharding import TRAIN_RULES, make_mesh
from selfevo_jax.train import Objective, ObjectiveSection, TrainConfig, open_objective, start_extras, with_extras
from selfevo_jax.train.objectives.head import shown_by
from selfevo_jax.train.state import Form
from selfevo_jax.train.step import gradient_sums

CONFIG = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.2,
    tie_word_embeddings=True,
)
PROMPT, LONGEST, LENGTH = 5, 7, 24
SHOWN = ("log_probs", "entropy", "mean_logits", "is_top1")
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers to prompts, padded on the right: ids and whether each is a target, `[N, PROMPT + LONGEST]`."""

    ids: np.ndarray
    targets: np.ndarray

    @classmethod
    def drawn(cls, count: int, seed: int, prompts: np.ndarray | None = None) -> Answers:
        rng = np.random.default_rng(seed)
        ids = rng.integers(2, CONFIG.vocab_size, (count, PROMPT + LONGEST))
        if prompts is not None:
            ids[:, :PROMPT] = prompts
        places = np.arange(PROMPT + LONGEST)
        stop = PROMPT + rng.integers(2, LONGEST + 1, (count, 1))
        return cls(np.where(places < stop, ids, 0), (places >= PROMPT) & (places < stop))

    @property
    def there(self) -> np.ndarray:
        return self.targets | (np.arange(self.ids.shape[1]) < PROMPT)

    def examples(self, name: str, **extras: Sequence[float]) -> list[Example]:
        """Ours; the extras of each."""
        return [
            Example(
                f"{name}-{n}",
                "self",
                ids[there].astype(np.int32),
                targets[there].astype(np.float32),
                {extra: float(values[n]) for extra, values in extras.items()},
            )
            for n, (ids, targets, there) in enumerate(zip(self.ids, self.targets, self.there, strict=True))
        ]

    def tensors(self) -> dict[str, torch.Tensor]:
        """TRL's."""
        found = {"input_ids": self.ids, "attention_mask": self.there, "completion_mask": self.targets}
        return {name: torch.tensor(np.asarray(values, np.int64)) for name, values in found.items()}


class Models:
    """The model that is trained and its reference, in both worlds."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder, self.gradients = folder, 0
        self.reference, self.trained = LlamaForCausalLM(CONFIG), LlamaForCausalLM(CONFIG)
        with torch.no_grad():  # near each other, so that some ratios are clipped and some are not
            for to, of in zip(self.trained.parameters(), self.reference.parameters(), strict=True):
                to.copy_(of + 0.02 * torch.randn_like(of))
        self.config, self.reference_params = self._ours(self.reference, "reference")
        _, self.params = self._ours(self.trained, "trained")
        for model in (self.reference, self.trained):
            add_fused_lm_head(model, outputs=SHOWN)

    def _ours(self, model: Any, name: str) -> tuple[ModelConfig, Any]:
        model.save_pretrained(self.folder / name)
        config, load = read_huggingface(self.folder / name)
        return config, load(None, jnp.float32)

    def gradient(self, loss: torch.Tensor) -> Any:
        """Of a loss of TRL's, as a tree of ours: read like weights, which it is put in the place of."""
        self.trained.zero_grad()
        loss.backward()
        slopes = LlamaForCausalLM(CONFIG)
        with torch.no_grad():
            for to, of in zip(slopes.parameters(), self.trained.parameters(), strict=True):
                to.copy_(of.grad)
        self.gradients += 1
        return self._ours(slopes, f"gradient-{self.gradients}")[1]


def trainer(models: Models, kind: type, **settings: Any) -> Any:
    """What a loss function of a trainer of TRL's reads of it."""

    def same(x: Any, *_: Any, **__: Any) -> Any:
        return x

    made = SimpleNamespace(
        model=models.trained,
        ref_model=models.reference,
        args=SimpleNamespace(
            gradient_checkpointing_kwargs=None, delta=None, use_bias_correction_kl=False, steps_per_generation=1
        ),
        accelerator=SimpleNamespace(
            device=torch.device("cpu"),
            num_processes=1,
            gather=same,
            gather_for_metrics=same,
            reduce=same,
            unwrap_model=same,
            autocast=contextlib.nullcontext,
        ),
        aux_loss_enabled=False,
        _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **settings,
    )
    models.trained.train()
    for name in ("_compute_kl_logps", "_get_per_token_logps_and_entropies"):
        if (found := getattr(kind, name, None)) is not None:
            setattr(made, name, functools.partial(getattr(found, "__wrapped__", found), made))
    return made


def dpo_of_trl(models: Models, loss: str, better: Answers, worse: Answers) -> torch.Tensor:
    sides = [side.tensors() for side in (better, worse)]
    inputs = {name: torch.cat([side[name] for side in sides]) for name in sides[0]}
    made = trainer(
        models,
        DPOTrainer,
        beta=0.1,
        label_smoothing=0.1,
        loss_types=[loss],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        precompute_ref_logps=False,
        use_weighting=False,
    )
    found: torch.Tensor = DPOTrainer._compute_loss(made, models.trained, inputs, False)
    return found


def kto_of_trl(models: Models, answers: Answers, apart: Answers, good: np.ndarray) -> torch.Tensor:
    mismatched = {f"KL_{name}": values for name, values in apart.tensors().items()}
    inputs = {**answers.tensors(), **mismatched, "label": torch.tensor(good)}
    settings = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.2, "loss_type": "kto"}
    made = trainer(models, KTOTrainer, calculate_KL=True, precompute_ref_logps=False, **settings)
    found: torch.Tensor = KTOTrainer._compute_loss(made, models.trained, inputs, False)
    return found


def grpo_of_trl(models: Models, loss: str, answers: Answers, advantages: np.ndarray, kl: float) -> torch.Tensor:
    """The reference has drawn the answers, as in a first fine-tuning on them."""
    made = trainer(
        models,
        GRPOTrainer,
        loss_type=loss,
        beta=kl,
        epsilon_low=0.2,
        epsilon_high=0.28,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST,
    )
    given = answers.tensors()
    ids, there = given["input_ids"], given["attention_mask"]
    with torch.no_grad():
        start, *_ = made._get_per_token_logps_and_entropies(models.reference, ids, there, LONGEST)
    inputs = {
        "prompt_ids": ids[:, :PROMPT],
        "prompt_mask": there[:, :PROMPT],
        "completion_ids": ids[:, PROMPT:],
        "completion_mask": there[:, PROMPT:],
        "advantages": torch.tensor(advantages, dtype=torch.float32),
        "old_per_token_logps": start,
        "ref_per_token_logps": start,
        "num_items_in_batch": there[:, PROMPT:].sum(),
    }
    found: torch.Tensor = GRPOTrainer._compute_loss(made, models.trained, inputs)
    return found


def ours(models: Models, objective: Objective, units: Sequence[Unit]) -> tuple[float, Any, np.ndarray]:
    """Loss and gradient of packed rows, and the figures of the objective."""
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    settings = TrainConfig(batch_rows=len(units), length=LENGTH, objective=objective)
    examples = [example for unit in units for example in unit.members]
    read = start_extras(models.reference_params, models.config, examples, mesh, settings)
    whole = iter([dataclasses.replace(e, extras=with_extras(e, r)) for e, r in zip(examples, read, strict=True)])
    filled: list[Unit] = [
        Group(tuple(next(whole) for _ in unit.members)) if len(unit.members) > 1 else next(whole) for unit in units
    ]
    by_first = {unit.id: unit for unit in filled}
    rows = [[by_first[name] for name in ids if name in by_first] for ids in pack(filled, LENGTH).ids]
    packed = fill_rows([*rows, *[[]] * (len(units) - len(rows))], LENGTH, objective.reads)
    batch = Batch(packed.tokens, packed.weights, packed.segment_ids, packed.positions, packed.extras)
    form = Form.of(models.config, settings, mesh, TRAIN_RULES)
    sums = jax.jit(lambda p, b: gradient_sums(form, (p, ()), b))(form.formed(models.params), batch.micro(1))
    figures = np.asarray(sums.figures)
    gradient = jax.tree.map(lambda x: x / sums.weight, sums.gradient)
    return float(sums.loss / sums.weight), gradient, figures[:, 0] / figures[:, 1]


def compare(folder: Path) -> list[tuple[str, float, float, float, str]]:
    """Of each objective: TRL's loss, ours, how far the gradients are apart, and figures."""
    models = Models(folder)
    better = Answers.drawn(6, 1)
    worse = Answers.drawn(6, 2, better.ids[:, :PROMPT])
    apart = Answers(
        np.concatenate([better.ids[:, :PROMPT], np.roll(better.ids[:, PROMPT:], 1, axis=0)], axis=1),
        np.roll(better.targets, 1, axis=0),
    )
    good = np.array([True, False, True, True, False, False])
    rewards = ([1.0, 0.0, 0.0], [0.2, 0.9, 0.5])

    def made(name: str, **settings: Any) -> Objective:
        return open_objective(ObjectiveSection(name=name, settings=settings))

    pairs: list[Unit] = [
        Group(pair)
        for pair in zip(better.examples("better", side=[1] * 6), worse.examples("worse", side=[-1] * 6), strict=True)
    ]
    judged: list[Unit] = [
        *better.examples("judged", verdict=np.where(good, 1, -1), mismatched=[0] * 6),
        *apart.examples("apart", verdict=[0] * 6, mismatched=[1] * 6),
    ]
    grpo = functools.partial(made, "grpo", clip=0.2, clip_high=0.28, kl_weight=0.04)
    advantages = np.concatenate([grpo().advantages(group) for group in rewards])  # type: ignore[attr-defined]
    drawn: list[Unit] = [*better.examples("drawn", advantage=advantages, drawn=[1] * 6)]

    def of_pairs(loss: str) -> Callable[[], torch.Tensor]:
        return functools.partial(dpo_of_trl, models, loss, better, worse)

    def of_policy(loss: str) -> Callable[[], torch.Tensor]:
        return functools.partial(grpo_of_trl, models, loss, better, advantages, 0.04)

    contests: list[tuple[str, Callable[[], torch.Tensor], Objective, list[Unit]]] = [
        ("dpo", of_pairs("sigmoid"), made("dpo"), pairs),
        ("dpo_norm", of_pairs("sigmoid_norm"), made("dpo_norm"), pairs),
        ("robust", of_pairs("robust"), made("robust", label_smoothing=0.1), pairs),
        ("ipo", of_pairs("ipo"), made("ipo"), pairs),
        ("hinge", of_pairs("hinge"), made("hinge"), pairs),
        ("apo_zero", of_pairs("apo_zero"), made("apo_zero"), pairs),
        ("kto", lambda: kto_of_trl(models, better, apart, good), made("kto", undesirable_weight=1.2), judged),
        ("grpo, of sequences", of_policy("grpo"), grpo(loss_aggregation="sequence"), drawn),
        ("grpo, of tokens (dapo)", of_policy("dapo"), grpo(loss_aggregation="token"), drawn),
        (
            "grpo, by a constant (dr_grpo)",
            of_policy("dr_grpo"),
            grpo(loss_aggregation="constant", constant_length=LONGEST),
            drawn,
        ),
    ]
    found = []
    for name, of_trl, objective, units in contests:
        loss = of_trl()
        expected, (value, gradient, figures) = models.gradient(loss), ours(models, objective, units)
        top = max(float(np.abs(x).max()) for x in jax.tree.leaves(expected))
        gaps = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()), gradient, expected)
        shown = ", ".join(f"{what} {x:.3g}" for what, x in zip(shown_by(objective), figures, strict=True))
        found.append((name, loss.item(), value, max(jax.tree.leaves(gaps)) / top, shown))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder))
    print("| objective | loss of TRL | loss of ours | gradients apart | figures |\n|---|---|---|---|---|")
    for name, theirs, mine, apart, figures in found:
        print(f"| {name} | {theirs:.7f} | {mine:.7f} | {apart:.1e} | {figures} |")
    far = [name for name, a, b, gap, _ in found if abs(a - b) > TOLERANCE * max(1.0, abs(a)) or gap > TOLERANCE]
    print(f"all within {TOLERANCE:g}" if not far else f"FURTHER APART THAN {TOLERANCE:g}: {', '.join(far)}")


if __name__ == "__main__":
    main()
