"""What the fuzzers read: importing it enters every target into `fuzzing.TARGETS`."""

from fuzz_targets import media, names, stored, tables, words

__all__ = ["media", "names", "stored", "tables", "words"]
