"""The command line: `vgbench train|eval|benchmark|...`, and the same as scripts in a clone."""
