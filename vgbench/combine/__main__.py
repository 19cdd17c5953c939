"""`python3 -m vgbench.combine`."""

import sys

from vgbench.combine.cli import main

sys.exit(main())
