"""What form each key wants, in words; and the nearest known key to an unknown one."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from selfevo_jax.config.sections import Config
from selfevo_jax.section import Section

Location = tuple[str | int, ...]

_OTHER_NAMES = {
    "learning_rate": "lr lr_rate peak_lr peak_learning_rate max_lr step_size learningrate",
    "steps": "max_steps train_steps num_steps num_train_steps training_steps total_steps iterations n_steps",
    "epochs": "num_epochs num_train_epochs max_epochs n_epochs train_epochs epoch",
    "batch_rows": "batch_size batch bs train_batch_size per_device_train_batch_size per_device_batch_size "
    "global_batch_size micro_batch_size",
    "accumulate": "gradient_accumulation_steps grad_accum grad_accumulation accumulation_steps accumulate_grad_batches",
    "length": "max_length max_seq_length max_seq_len seq_len seq_length sequence_length block_size cutoff_len "
    "max_target_length",
    "warmup_steps": "warmup num_warmup_steps warmup_ratio lr_warmup_steps",
    "schedule": "lr_scheduler lr_scheduler_type scheduler lr_schedule decay",
    "clip_norm": "max_grad_norm grad_clip gradient_clipping grad_clip_norm clip gradient_clip_val max_norm",
    "b1": "beta1 adam_beta1 adam_b1",
    "b2": "beta2 adam_beta2 adam_b2",
    "weight_decay": "wd decay_weight adam_weight_decay",
    "remat": "gradient_checkpointing activation_checkpointing checkpointing remat_policy",
    "compute_dtype": "precision mixed_precision bf16 fp16",
    "dtype": "precision mixed_precision bf16 fp16 torch_dtype compute_dtype",
    "rank": "r lora_rank lora_r",
    "alpha": "lora_alpha",
    "targets": "target_modules lora_target_modules",
    "number": "num_rounds n_rounds rounds iterations num_iterations count total",
    "variant": "mode strategy training_variant",
    "select": "filter selection",
    "samples_per_prompt": "n n_samples num_samples num_return_sequences num_generations rollout_n best_of",
    "prompts_per_round": "num_prompts prompts_per_iteration rollout_batch_size",
    "k": "n n_samples num_samples num_return_sequences votes",
    "temperature": "temp sampling_temperature",
    "top_p": "topp nucleus",
    "top_k": "topk",
    "max_new_tokens": "max_tokens max_length max_response_length max_completion_length max_gen_len num_predict "
    "max_output_tokens response_length",
    "cache_length": "max_model_len max_seq_len max_length context_length context_size ctx n_ctx max_context",
    "slots": "max_num_seqs batch_size max_batch_size batch num_slots concurrency",
    "tensor": "tp tensor_parallel tensor_parallel_size tensor_parallelism ici_tensor_parallelism",
    "data": "dp data_parallel data_parallelism dp_size ici_data_parallelism",
    "fsdp": "fsdp_size shard zero ici_fsdp_parallelism",
    "source": "name path model_name model_path model_name_or_path name_or_path checkpoint base_model pretrained",
    "tokenizer": "tokenizer_path tokenizer_name tokenizer_name_or_path",
    "run_dir": "output_dir out_dir outdir save_dir logdir log_dir base_output_directory work_dir workdir output_path",
    "prompts": "train_file prompts_file prompt_file dataset dataset_path train_data unlabeled",
    "meta_skill": "feedback feedback_data meta_data d_meta dmeta",
    "qa": "sft_data supervised",
    "evaluation": "eval eval_data test_file test validation validation_file eval_file eval_dataset dev",
    "evaluation_rows": "eval_rows eval_samples max_eval_samples limit",
    "modes": "mode metrics",
    "kind": "type name",
    "system": "system_prompt system_message",
    "stop_strings": "stop stop_sequences stop_words",
    "platform": "device backend accelerator jax_platform hardware",
    "seed": "random_seed rng_seed random_state data_seed",
    "top_share": "top_fraction top_quantile quantile keep_share",
    "samples": "k n n_samples num_samples",
    "join": "aggregate aggregation reduce",
    "good_rating": "threshold min_rating rating_threshold",
    "every_steps": "save_steps checkpoint_every save_every save_interval checkpoint_period",
    "every_minutes": "save_minutes save_time",
    "keep_last": "save_total_limit max_to_keep keep",
}
"""Our key -> the names that users of other programs know it by."""
_OURS: dict[str, list[str]] = {}
for _key, _names in _OTHER_NAMES.items():
    for _name in _names.split():
        _OURS.setdefault(_name, []).append(_key)


def names_elsewhere() -> list[str]:
    """All that users of other programs call our keys."""
    return list(_OURS)


def other_names(name: str) -> list[str]:
    """Our keys that users of other programs know by this name."""
    return _OURS.get(name.lower().replace("-", "_"), [])


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The kinds of a union, or the one kind."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _plain(annotation: Any) -> tuple[Any, list[Any]]:
    """The kind within `Annotated`, and its limits."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    kind, *limits = get_args(annotation)
    return kind, [inner for limit in limits for inner in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]


def _section_in(annotation: Any, value: Any) -> type[Section] | None:
    """The section among the kinds of a union; of a section of several kinds the one that the value is."""
    for alternative in _alternatives(annotation):
        kind, _ = _plain(alternative)
        if _is_section(kind):
            found: type[Section] = kind
            with contextlib.suppress(ValueError):
                found = found.of(found.written_out(value))
            return found
    return None


def _inner(annotation: Any) -> Any:
    """The kind of what a mapping or a list holds; None for others."""
    for alternative in _alternatives(annotation):
        kind, _ = _plain(alternative)
        if get_origin(kind) in (dict, tuple):
            return get_args(kind)[1 if get_origin(kind) is dict else 0]
    return None


def _within(value: Any, part: str | int) -> Any:
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def section_at(location: Location, tree: Any = None, root: type[Section] = Config) -> type[Section] | None:
    """The section that a path of keys leads to, in a config as it is written; None where it leads to none."""
    kind: Any = root
    for part in location:
        section = _section_in(kind, tree)
        if section is not None:
            field = section.model_fields.get(str(part))
            kind = None if field is None else field.annotation
        else:
            kind = _inner(kind)
        tree = _within(tree, part)
    return _section_in(kind, tree)


def fields(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key below a section with its full name, sections included."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        for kind in _alternatives(field.annotation):
            if _is_section(kind):
                yield from fields(kind, f"{prefix}{name}.")


def nearest(location: Location, tree: Any = None) -> str:
    """A hint from an unknown key to the known one that was meant: the usual name elsewhere, a slip, or the section."""
    section, name = section_at(location[:-1], tree), str(location[-1])
    if section is None:
        return ""
    known = list(section.model_fields)
    meant = other_names(name)
    here = [key for key in meant if key in known] or difflib.get_close_matches(name, known, n=1)
    if here:
        return f"; did you mean '{here[0]}'?"
    everywhere = [full for full, _ in fields()]
    below = [full for full in everywhere if full.startswith("".join(f"{part}." for part in location[:-1]))]
    for among, key in itertools.product((below, everywhere), (name, *meant)):
        elsewhere = [full for full in among if full.rpartition(".")[2] == key]
        if elsewhere:
            return f"; did you mean {' or '.join(repr(full) for full in elsewhere[:3])}?"
    return f"; known keys: {', '.join(known)}"


def _bounds(limits: list[Any]) -> str:
    signs = (("above", "gt"), ("from", "ge"), ("below", "lt"), ("up to", "le"))
    found = [(word, value) for word, sign in signs for m in limits if (value := getattr(m, sign, None)) is not None]
    return "".join(f" {word} {int(value) if value == int(value) else value}" for word, value in found)


def _kind_in_words(annotation: Any, limits: list[Any]) -> str:
    kind, own = _plain(annotation)
    limits = [*own, *limits]
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(kind) is tuple:
        return f"a list, each {_kind_in_words(get_args(kind)[0], [])}"
    if get_origin(kind) is dict:
        if get_args(kind)[1] is str:
            return "a section of names of columns, such as {answer: target}"
        if get_origin(_plain(get_args(kind)[1])[0]) is tuple:
            return "a section of columns and their values, such as {level: [1, 2]}"
        if _is_section(get_args(kind)[1]):
            return "a section of names and files, such as {gsm8k: test.jsonl}"
        return "a section of settings of the chat template, such as {enable_thinking: false}"
    if _is_section(kind):
        return kind.in_words or f"a section with keys such as {', '.join(list(kind.model_fields)[:3])}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words.get(kind, str(kind)) + _bounds(limits)


def _kinds(field: FieldInfo) -> list[Any]:
    return [kind for kind in _alternatives(field.annotation) if kind is not type(None)]


def may_be_null(field: FieldInfo) -> bool:
    """Whether null is a value of a key."""
    return type(None) in _alternatives(field.annotation)


def in_words(field: FieldInfo) -> str:
    """The form of a key: `a whole number above 0, or null`."""
    kinds = _kinds(field)
    words = " or ".join(_kind_in_words(kind, list(field.metadata)) for kind in kinds)
    return words + (", or null" if may_be_null(field) else "")


def sections_in(annotation: Any) -> Iterator[tuple[type[Section], bool]]:
    """The sections that a key may hold, each with whether the user gives it a name (as a set in `data.evaluation`)."""
    for alternative in _alternatives(annotation):
        kind, _ = _plain(alternative)
        if _is_section(kind):
            yield kind, False
        elif get_origin(kind) is dict and _is_section(get_args(kind)[1]):
            yield get_args(kind)[1], True


def expected(location: Location, tree: Any = None) -> str:
    """The form that a key wants, with an example: `a whole number above 0, such as 150`."""
    parts = [part for part in location if part != "[key]"]
    for size in range(len(parts), 0, -1):
        section = section_at(tuple(parts[: size - 1]), tree)
        field = None if section is None else section.model_fields.get(str(parts[size - 1]))
        if field is not None:
            break
    else:
        return "sections such as 'model:' and 'data:'"
    if _is_section(_inner(field.annotation)) and get_origin(field.annotation) is dict and len(parts) > size:
        return "a name of letters, digits, '_', '-' and '.', and a file, such as {gsm8k: test.jsonl}"
    words, plain = in_words(field), _plain(_kinds(field)[0])[0]
    if plain in (int, float) and isinstance(field.default, int | float):
        words += f", such as {field.default:g}"
    return words
