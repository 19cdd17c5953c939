from .cli import check_options, main

__all__ = ["check_options", "main"]
