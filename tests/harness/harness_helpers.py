"""The config of a small evaluation with the shipped model."""

TREE = {
    "run_dir": "unused",
    "model": {"source": "builtin:stories"},
    "mesh": {"data": 1},
    "data": {"stories": {"evaluation_rows": 16}},
    "sampling": {
        "slots": 16,
        "cache_length": 128,
        "respond": {"max_new_tokens": 8},
        "feedback": {"max_new_tokens": 40},
        "refine": {"max_new_tokens": 8},
    },
}
