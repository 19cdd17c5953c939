"""Ways to compute descriptors (`--inference_backend`), a file each; their table is in `vgbench.runtime_options`."""
