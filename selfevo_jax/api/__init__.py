"""selfevo_jax from Python: what `import selfevo_jax as se` offers. The commands do the same by the same code."""
