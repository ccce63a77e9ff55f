"""Plan a run for TPUs that are not here: its programs compiled, what they hold and cost, and the time of a round.

Nothing is imported here: `plan.chips.prepare_compiler` has to be called before jax starts.
"""
