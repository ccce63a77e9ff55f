"""`python -m selfevo_jax` is the `selfevo` command."""

from selfevo_jax.cli import main

main()
