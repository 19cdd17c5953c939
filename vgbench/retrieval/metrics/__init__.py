"""How often a search is right, how far off it is, and when to believe it."""
