"""GSV-Cities (Ali-bey et al., 2022): kept in its own layout, which training reads as it is."""

from __future__ import annotations

from collections.abc import Iterator

from datasets_vg.prepare.base import MissingRawError, Picture, Raw, files_below
from datasets_vg.prepare.run import FromRaw

FRAMES, IMAGES = "Dataframes", "Images"


def arrange(raw: Raw, name: str, part: str) -> Iterator[Picture]:
    """Yield the data frames and images; raises MissingRawError for a city with images and without a data frame."""
    del name, part
    frames, images = raw.find(FRAMES, folder=True), raw.find(IMAGES, folder=True)
    if frames is None or images is None:
        missing = [text for text, found in ((FRAMES, frames), (IMAGES, images)) if found is None]
        raise MissingRawError(f"{raw}: {', '.join(missing)} not there")
    cities = sorted(path.name for path in images.iterdir() if path.is_dir())
    lost = [city for city in cities if not (frames / f"{city}.csv").is_file()]
    if lost:
        raise MissingRawError(f"{frames}: {', '.join(f'{city}.csv' for city in lost)} not there")
    lost = [path.stem for path in sorted(frames.glob("*.csv")) if path.stem not in cities]
    if lost:
        raise MissingRawError(f"{images}: {', '.join(lost)} not there")
    for city in cities:
        yield Picture(f"{FRAMES}/{city}.csv", str(frames / f"{city}.csv"))
        for source in files_below(images / city, ".jpg", ".jpeg", ".png"):
            yield Picture(f"{IMAGES}/{city}/{source.rpartition('/')[2]}", source)


def _no_tree(part: str) -> tuple[str, ...]:
    del part
    return ()


PREPARER = FromRaw(arrange, splits=_no_tree, exclusive=True)
