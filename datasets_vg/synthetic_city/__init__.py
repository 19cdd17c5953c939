"""A procedural city in the folder protocol: streets rendered by ray casting, deterministic by seed, no GPU, no download."""
