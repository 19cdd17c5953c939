"""Small parts that learn in the place of a transformer's own weights: low-rank updates, adapters, a side branch."""
