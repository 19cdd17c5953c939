"""This harness beside the Deep Visual Geo-localization Benchmark: the same commands on the same data, in turn."""
