"""Speed and memory of the harness, each beside a plain reference: `python3 -m perf`."""
