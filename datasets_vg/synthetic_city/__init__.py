"""A procedural city in the folder protocol: ray-cast streets, deterministic by seed, no GPU, no download."""
