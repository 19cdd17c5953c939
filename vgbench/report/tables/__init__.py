"""One table of results, in the forms that papers and people want: markdown, LaTeX, CSV and HTML."""

import lazy_loader

# The names stand in __init__.pyi, each is imported when it is first asked for: options are parsed without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
