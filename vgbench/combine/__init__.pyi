from .cli import check_options, check_whitened, images_of, main

__all__ = ["check_options", "check_whitened", "images_of", "main"]
