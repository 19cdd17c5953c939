"""Nearest descriptors: exact search, indices, codes, and PCA before them."""
