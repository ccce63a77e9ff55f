"""First steps: a config for a model and files that are there, and what would stop a run before it is begun."""
