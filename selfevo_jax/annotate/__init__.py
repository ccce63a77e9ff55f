"""D_meta and D_QA written by a stronger model behind an OpenAI-compatible server.

The settings (`selfevo_jax.annotate.section`) need no JAX; what samples a base is imported where a base is sampled.
"""
