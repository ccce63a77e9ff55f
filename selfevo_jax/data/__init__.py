"""Rows, examples and batches."""

from selfevo_jax.data.batches import Batch, Batches
from selfevo_jax.data.examples import (
    Example,
    TermWeights,
    by_term,
    fit_length,
    meta_examples,
    qa_example,
    self_example,
)
from selfevo_jax.data.packing import PackedRows, pack

__all__ = [
    "Batch",
    "Batches",
    "Example",
    "PackedRows",
    "TermWeights",
    "by_term",
    "fit_length",
    "meta_examples",
    "pack",
    "qa_example",
    "self_example",
]
