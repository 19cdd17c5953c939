from .cli import check_options, images_of, main

__all__ = ["check_options", "images_of", "main"]
