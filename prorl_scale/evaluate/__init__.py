"""Answer the paper's evaluation sets with one or more checkpoints, and score the answers: see `__main__`."""
