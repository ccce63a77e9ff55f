"""selfevo_jax: a language model improves itself by its own language feedback."""

__version__ = "0.1.0"
