"""What the loop, or an evaluation, believes of an answer: one small file for each kind.

The client of servers (`selfevo_jax.judges.endpoint`) is imported by its own name: what is here needs no JAX.
"""

from selfevo_jax.judges.base import Assessment, BatchJudge, Case, ChainJudge, Judged, Reply, Weighed
from selfevo_jax.judges.batch import BatchSection
from selfevo_jax.judges.confidence import ConfidenceJudge
from selfevo_jax.judges.ensemble import EnsembleJudge
from selfevo_jax.judges.leaks import Leaks
from selfevo_jax.judges.likelihood import LikelihoodJudge
from selfevo_jax.judges.mt_bench import CLOSING, JudgePrompt, mt_bench_pair, mt_bench_single
from selfevo_jax.judges.open_ended import BASE, SELF, OpenSection
from selfevo_jax.judges.pairwise import (
    PAIR_VERDICTS,
    SIDES,
    Judgement,
    Pair,
    PairVerdict,
    in_both_orders,
    pair_text,
    read_pair_verdict,
)
from selfevo_jax.judges.rating import RatingJudge
from selfevo_jax.judges.section import JudgeSection, format_for, open_batch, open_judge
from selfevo_jax.judges.server import WHERE_AND_HOW, EndpointSection
from selfevo_jax.judges.settings import EnsembleSection, LikelihoodSection
from selfevo_jax.judges.verdict import VerdictJudge

__all__ = [
    "BASE",
    "CLOSING",
    "PAIR_VERDICTS",
    "SELF",
    "SIDES",
    "WHERE_AND_HOW",
    "Assessment",
    "BatchJudge",
    "BatchSection",
    "Case",
    "ChainJudge",
    "ConfidenceJudge",
    "EndpointSection",
    "EnsembleJudge",
    "EnsembleSection",
    "JudgePrompt",
    "JudgeSection",
    "Judged",
    "Judgement",
    "Leaks",
    "LikelihoodJudge",
    "LikelihoodSection",
    "OpenSection",
    "Pair",
    "PairVerdict",
    "RatingJudge",
    "Reply",
    "VerdictJudge",
    "Weighed",
    "format_for",
    "in_both_orders",
    "mt_bench_pair",
    "mt_bench_single",
    "open_batch",
    "open_judge",
    "pair_text",
    "read_pair_verdict",
]
