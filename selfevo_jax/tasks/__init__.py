"""Where prompts, D_meta and evaluation rows come from: one room for each task."""
