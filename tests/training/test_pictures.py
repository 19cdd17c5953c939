"""Pictures of what was mined."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from recipes import PLACES_OPTIONS, network_of, recipe_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vgbench.data import Triplets, read_split
from vgbench.data.decode import decode_image
from vgbench.training import Checkpoints, EpochRecalls, MetricsLogger, Run, train
from vgbench.training.modes.domain import with_domain
from vgbench.training.modes.domain_classifier import DomainOptions
from vgbench.training.modes.table import build_mode
from vgbench.training.pictures import BLUE, GREEN, RED, SIZE, grid, hardest_grid, triplet_grid

DOWN, RIGHT = SIZE[0] + 12, SIZE[1] + 12


def tile_of(picture, row, place):
    """The photograph, without its border, and the border's colour."""
    part = picture[:, row * DOWN : row * DOWN + DOWN - 4, place * RIGHT : place * RIGHT + RIGHT - 4]
    return part[:, 4:-4, 4:-4], tuple(part[:, 0, 0].tolist())


def test_triplets_in_rows(tiny_dataset):
    split = read_split(tiny_dataset, "train")
    triplets = Triplets(np.array([3, 0]), np.array([5, 1]), np.array([[7, 2], [20, 21]]))
    picture = triplet_grid(split, triplets)
    assert picture.dtype == torch.uint8 and picture.shape == (3, 2 * DOWN - 4, 4 * RIGHT - 4)
    wanted = [
        [(split.queries, 3, BLUE), (split.database, 5, GREEN), (split.database, 7, RED), (split.database, 2, RED)],
        [(split.queries, 0, BLUE), (split.database, 1, GREEN), (split.database, 20, RED), (split.database, 21, RED)],
    ]
    for number, row in enumerate(wanted):
        for place, (table, which, colour) in enumerate(row):
            photo, border = tile_of(picture, number, place)
            assert torch.equal(photo, decode_image(table.path(which), SIZE)) and border == colour


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no photographs"):
        grid([[]])


def test_the_most_confused_of_a_batch_come_first():
    # Places on a line: 0 and 1 lie among one another, 2 is apart and alone.
    positions = torch.tensor([0.0, 5.0, 4.5, 9.0, 100.0])
    labels = torch.tensor([0, 0, 1, 1, 2])
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, *SIZE).contiguous() * 10
    picture = hardest_grid(images, labels, positions[:, None].expand(5, 3))
    seen = [[int(tile_of(picture, row, place)[0].float().mean()) // 10 for place in range(3)] for row in range(4)]
    # (anchor, farthest of its own, nearest of others), by brute force.
    wanted = []
    for one in range(4):
        own = [other for other in range(5) if other != one and labels[other] == labels[one]]
        others = [other for other in range(5) if labels[other] != labels[one]]
        far = max(own, key=lambda other: abs(positions[other] - positions[one]))
        near = min(others, key=lambda other: abs(positions[other] - positions[one]))
        gap = float(abs(positions[far] - positions[one]) - abs(positions[near] - positions[one]))
        wanted.append((-gap, [one, far, near]))
    assert seen == [row for _, row in sorted(wanted)]
    assert hardest_grid(images[3:], labels[3:], positions[3:, None]) is None  # nothing to compare


@pytest.mark.parametrize(("name", "adversary"), [("triplets", False), ("places", False), ("places", True)])
def test_tensorboard_has_the_hard_negatives_of_every_round(tiny_dataset, tmp_path, name, adversary):
    recipe = recipe_of(tiny_dataset, name)
    small = dataclasses.replace(
        recipe.training, epochs_num=1, queries_per_epoch=8, cache_refresh_rate=4, neg_samples_num=10,
        negs_num_per_query=3,
    )  # fmt: skip
    recipe = dataclasses.replace(
        recipe, training=small, places=dataclasses.replace(PLACES_OPTIONS, img_per_place=2, min_img_per_place=2)
    )
    network = network_of()
    targets = tiny_dataset / "images" / "test" / "queries"
    options = DomainOptions(grl_folder=targets) if adversary else DomainOptions()
    mode = with_domain(build_mode(recipe), options, recipe)
    folder = tmp_path / "run"
    folder.mkdir()
    with MetricsLogger(folder) as watch:
        train(
            network, mode, lambda *_: EpochRecalls({1: 1.0, 5: 5.0}), recipe.training, recipe.inference.runtime,
            Run(Checkpoints(folder, {}, {}), watch, 0),
        )  # fmt: skip
    events = EventAccumulator(str(folder / "tensorboard" / "train"))
    events.Reload()
    [title] = events.Tags()["images"]
    pictures = events.Images(title)
    assert len(pictures) == 2 and pictures[0].step < pictures[1].step
    assert "hardest" in title or "nearest" in title
    width, height = Image.open(io.BytesIO(pictures[0].encoded_image_string)).size
    assert (width + 4) % RIGHT == 0 and (height + 4) % DOWN == 0 and width >= 3 * RIGHT - 4
    assert {"loss", "images"} <= set(events.Tags()["scalars"])
    assert any(tag.startswith("lr_") for tag in events.Tags()["scalars"])
