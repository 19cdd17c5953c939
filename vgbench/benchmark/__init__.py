"""A matrix of runs: read from YAML, run one after another, put into one table."""
