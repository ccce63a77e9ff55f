"""Rows, examples and batches."""

from typing import TYPE_CHECKING

from selfevo_jax.lazy import on_demand

if TYPE_CHECKING:
    from selfevo_jax.data.balance import MetaBalance, meta_balance
    from selfevo_jax.data.batches import Batch, Batches, check_extras
    from selfevo_jax.data.examples import (
        Example,
        Group,
        TermWeights,
        Unit,
        by_term,
        fit_length,
        meta_examples,
        qa_example,
        self_example,
    )
    from selfevo_jax.data.gold import GoldRows, KnownGold, read_evaluation, read_gold
    from selfevo_jax.data.objects import builtin_sources, source_checksum
    from selfevo_jax.data.of_chains import feedback_context, hindsight_example, taught_example
    from selfevo_jax.data.only import Selection, selected
    from selfevo_jax.data.packing import PackedRows, pack
    from selfevo_jax.data.section import DataSection
    from selfevo_jax.data.self_written_section import SelfWrittenSection
    from selfevo_jax.data.sources import (
        EvaluationRow,
        MetaRow,
        PromptRow,
        QARow,
        ResponseRow,
        Tell,
        jsonl_lines,
        numbered_rows,
        read_meta,
        read_prompts,
        read_qa,
        rows_file,
        stable_id,
        write_jsonl,
    )
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Batch",
    "Batches",
    "DataSection",
    "EvaluationRow",
    "Example",
    "GoldRows",
    "Group",
    "KnownGold",
    "MetaBalance",
    "MetaRow",
    "PackedRows",
    "PromptRow",
    "QARow",
    "ResponseRow",
    "Selection",
    "SelfWrittenSection",
    "Tell",
    "TermWeights",
    "Unit",
    "builtin_sources",
    "by_term",
    "check_extras",
    "feedback_context",
    "fit_length",
    "hindsight_example",
    "jsonl_lines",
    "meta_balance",
    "meta_examples",
    "numbered_rows",
    "pack",
    "qa_example",
    "read_evaluation",
    "read_gold",
    "read_meta",
    "read_prompts",
    "read_qa",
    "rows_file",
    "selected",
    "self_example",
    "source_checksum",
    "stable_id",
    "taught_example",
    "write_jsonl",
]
