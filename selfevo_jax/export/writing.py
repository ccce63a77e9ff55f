"""Takes a model out: written beside its place, opened again and compared, and only then moved there."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from safetensors import SafetensorError

from selfevo_jax.checkpoint import (
    PEFT,
    Adapters,
    ModelSource,
    adapters_in,
    base_name,
    check_gguf,
    check_peft,
    config_to_huggingface,
    export_huggingface,
    locate,
    open_model,
    open_weights,
    write_gguf,
    write_peft,
)
from selfevo_jax.checkpoint.peft import OWN_BASE
from selfevo_jax.errors import ConfigError, SelfevoError, first_line
from selfevo_jax.export.card import Checked, card
from selfevo_jax.export.check import difference, logits_of, require_same
from selfevo_jax.export.form import Form
from selfevo_jax.export.texts import format_of, probes, said
from selfevo_jax.model import merge_adapters, param_count, require_finite
from selfevo_jax.progress import Reporter
from selfevo_jax.run.chosen import Chosen
from selfevo_jax.run.retention import require_room
from selfevo_jax.run.sources import require_unchanged
from selfevo_jax.storage import bring_file, is_remote, storage_of
from selfevo_jax.text import check_exported, checked_texts, exported_tokenizer, gguf_fields

CARD = "README.md"
_LAST = ("config.json", PEFT)
"""Files without which a folder is no model: they are put in place last."""


@dataclass(frozen=True)
class Exported:
    """What was written, and what was found when it was opened again."""

    files: list[str]
    checked: Checked


def export(
    chosen: Chosen, out: Path, form: Form, reporter: Reporter, make_room: Callable[[], None] = lambda: None
) -> Exported:
    """Writes a model to a folder, here or in a bucket, that is not there yet.

    It is written beside its place first (for a bucket, in a temporary folder of this machine), opened again by the
    readers of this package, and compared: ids of the built-in texts and of texts of the run, the ids that end a text,
    and the logits of three prompts against those of the parameters as they were rounded. What differs is refused, and
    nothing of it is left.

    Args:
      chosen: the model.
      out: the folder.
      form: what is written.
      reporter: shows the progress.
      make_room: called when all is well, before the folder gets its name.

    Raises:
      ModelError: a model or tokenizer that has no such form, or that differs when it is opened again.
      ConfigError: adapters are asked for, and the checkpoint has none.
      SelfevoError: a checkpoint that is not what its run has saved; a disk or bucket that does not take it.
    """
    require_unchanged(chosen.source)
    model = open_model(chosen.source, chosen.tokenizer)
    adapters = _adapters_of(chosen.source) if form.adapters else None
    format = format_of(chosen, model.tokenizer)
    ends = model.tokenizer.eos_ids if format is None else format.stop_ids
    texts, own = checked_texts(model.tokenizer), said(chosen)
    files = exported_tokenizer(model.tokenizer, ends)
    check_exported(files, model.tokenizer, [*texts, *own.texts])
    _check_form(model, adapters, form, ends)
    prompts = probes(own.prompts, model.tokenizer, format)
    with _beside(out) as folder:
        size = param_count(model.config) * jnp.dtype(form.dtype).itemsize * (2 if form.gguf else 1)
        require_room(folder.parent, size, f"exporting {chosen.shown}")
        reporter.line(f"reading {chosen.shown}")
        wanted, moved = (
            _write_merged(folder, out.name, model, form, ends, prompts)
            if adapters is None
            else _write_adapters(folder, out, model, adapters, form, ends, prompts)
        )
        reporter.line(f"opening what was written, and comparing the ids of {len(texts) + len(own.texts)} texts")
        same = functools.partial(
            require_same,
            config=model.config,
            tokenizer=model.tokenizer,
            ends=ends,
            texts=[*texts, *own.texts],
            prompts=prompts,
            wanted=wanted,
        )
        written = [str(folder), *map(str, sorted(folder.glob("*.gguf")))]
        checked = Checked(len(texts), len(own.texts), max(same(path) for path in written), moved)
        with _onto_disk(folder):
            (folder / CARD).write_text(card(chosen, model, form, format, out.name, checked, adapters), encoding="utf-8")
        written_files = storage_of(folder).files(folder)
        for file in written_files:  # safetensors makes files that their owner alone may read
            shutil.copymode(folder / CARD, file)
        names = [file.relative_to(folder).as_posix() for file in written_files]
        make_room()
        _deliver(folder, out, names)
    return Exported(names, checked)


def _adapters_of(source: str) -> Adapters:
    path = locate(source)
    found = None if path is None or not path.is_dir() else adapters_in(path)
    if found is None:
        raise ConfigError(f"--adapters: {source} holds whole weights and no adapters; leave --adapters out")
    return found


def _check_form(model: ModelSource, adapters: Adapters | None, form: Form, ends: Sequence[int]) -> None:
    """Refuses what has no such form before any weights are read."""
    config_to_huggingface(model.config)
    if adapters is not None:
        check_peft(model.config, adapters.lora)
    if form.gguf:
        check_gguf(model.config)
        gguf_fields(model.tokenizer, model.config.vocab_size, ends)


def _rounded(params: Any, dtype: str, what: str) -> Any:
    """In another dtype, leaf by leaf; numbers that it cannot hold are refused. What is given is used up."""

    def one(leaf: jax.Array) -> jax.Array:
        made = leaf.astype(dtype)
        leaf.delete()
        return made

    if dtype == "float32":
        return params
    rounded = jax.tree.map(one, params)
    return require_finite(rounded, f"{what} in {dtype}", "choose --dtype bfloat16, which reaches as far as float32")


def _write_merged(
    folder: Path, name: str, model: ModelSource, form: Form, ends: Any, prompts: list[list[int]]
) -> tuple[Any, float]:
    """Writes the folder, and the GGUF file of that name.

    Returns the logits of the rounded parameters, and how far rounding has moved one at most.
    """
    params = require_finite(model.load(None, jnp.float32), model.origin)
    exact = logits_of(model.config, params, prompts)
    params = _rounded(params, form.dtype, model.origin)
    with _onto_disk(folder):
        export_huggingface(params, model.config, model.tokenizer, folder, eos_ids=ends)
        if form.gguf:
            write_gguf(folder / f"{name}.gguf", params, model.config, model.tokenizer, name, ends)
    wanted = logits_of(model.config, params, prompts)
    return wanted, difference(wanted, exact)


def _write_adapters(
    folder: Path,
    out: Path,
    model: ModelSource,
    adapters: Adapters,
    form: Form,
    ends: Any,
    prompts: list[list[int]],
) -> tuple[Any, float]:
    """Writes the adapters, with their base beside them unless that is a Hugging Face folder already."""
    config, load, path = open_weights(adapters.of)
    base, products = load(None, jnp.float32), adapters.load(config, None)
    merge = jax.jit(lambda base, products: merge_adapters(base, products, adapters.lora))
    exact = logits_of(config, require_finite(merge(base, products), model.origin), prompts)
    numbers = _rounded(products, form.dtype, "the adapters")
    if path is not None and (path / "config.json").is_file():
        of, revision = base_name(adapters.of, path)
    else:
        of, revision = str(out / OWN_BASE), None
        base = _rounded(base, form.dtype, "the base")
        with _onto_disk(folder):
            export_huggingface(base, config, model.tokenizer, folder / OWN_BASE, eos_ids=ends)
    with _onto_disk(folder):
        write_peft(folder, numbers, adapters.lora, config, of, form.dtype, revision)
        for name, content in exported_tokenizer(model.tokenizer, ends).items():
            (folder / name).write_bytes(content)
    wide = [jax.tree.map(lambda x: x.astype(jnp.float32), tree) for tree in (base, numbers)]
    wanted = logits_of(config, merge(*wide), prompts)
    return wanted, difference(wanted, exact)


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A new folder that is gone afterwards, unless it was moved: beside `out`, or of this machine for a bucket."""
    if is_remote(out):
        with tempfile.TemporaryDirectory(prefix="selfevo-export-") as root:
            folder = Path(root) / out.name
            folder.mkdir()
            yield folder
        return
    folder = out.with_name(f".{out.name}.unfinished")
    storage_of(folder).remove(folder)  # of a call that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        storage_of(folder).remove(folder)


@contextlib.contextmanager
def _onto_disk(folder: Path) -> Iterator[None]:
    """Makes what the system or safetensors says of a failed write one clear line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise SelfevoError(
            f"{folder.parent}: the export could not be written ({first_line(error)}); nothing of it is left. Make room "
            "there, or name another folder, and run the same command again"
        ) from error


def _deliver(folder: Path, out: Path, names: list[str]) -> None:
    """Puts what was written in its place, whole or not at all."""
    there = storage_of(out)
    if not is_remote(out):
        there.move(folder, out)
        return
    try:
        for name in sorted(names, key=lambda name: name.rpartition("/")[2] in _LAST):
            bring_file(folder / name, out / name)
    except Exception as error:  # of the client of the bucket: there is no common class
        there.remove(out)
        raise SelfevoError(f"{out}: the bucket did not take it ({first_line(error)}); nothing is left there") from error
