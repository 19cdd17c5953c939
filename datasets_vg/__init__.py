"""Datasets for visual geo-localization: bring them into the folder protocol, check, describe and map them."""
