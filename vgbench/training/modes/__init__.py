"""Ways to train: what a round mines, what a batch is, what its loss is; one file a mode."""
