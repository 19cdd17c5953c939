"""What `import vgbench` offers to other people's Python: see docs/python.md."""
