"""The file formats' names, known without torch."""

SUFFIXES = {"onnx": ".onnx", "torchscript": ".ts", "torch_export": ".pt2"}
"""What the files of each format end in."""
