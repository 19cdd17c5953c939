"""Where tests find what they read: the repository, the conformance vectors, and photographs if they are at hand."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CONFORMANCE = REPOSITORY / "tests" / "conformance"
# Real photographs are not ours to publish: tests that use them are skipped where this folder is missing.
PHOTOGRAPHS = REPOSITORY.parent / "shared" / "data"
