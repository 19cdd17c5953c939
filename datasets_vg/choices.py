"""What the command line lists before anything is made: known without numpy, Pillow and torch."""

TRANSFERS = ("link", "copy", "move")
"""How raw images come into a dataset."""
WAYS = ("date", "area", "hand")
"""How one's own pictures are divided into splits."""
DEFAULT_IMAGES = 1680
"""Of the synthetic city, all folders together."""
AUTO = "auto"
HEADINGS = (AUTO, "clockwise", "counterclockwise")
"""Which way the headings of panoramas turn."""
