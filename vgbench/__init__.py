"""vgbench: train, test and compare networks for visual geo-localization."""

__version__ = "0.1.0"
