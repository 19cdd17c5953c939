"""Batches of labelled images: in the order given, each image with its own label."""

import numpy as np
import torch
from PIL import Image

from vgbench.data import read_folder
from vgbench.data.labelled import labelled_loader, own_part
from vgbench.data.labelled_table import LabelledTable


def test_images_come_with_their_labels_in_the_order_given(tmp_path):
    for row in range(4):
        Image.new("RGB", (8, 6), (50 * row, 0, 0)).save(tmp_path / f"@{row}@0@.png")
    table = read_folder(tmp_path)
    batches = [(np.array([3, 1]), np.array([7, 7])), (np.array([0]), np.array([2]))]
    found = list(labelled_loader(table, batches, size=(6, 8), num_workers=0))
    assert [batch.labels.tolist() for batch in found] == [[7, 7], [2]] and len(found[0]) == 2
    assert found[0].images.shape == (2, 3, 6, 8) and found[0].images.dtype == torch.uint8
    assert [int(one[0, 0, 0]) for batch in found for one in batch.images] == [150, 50, 0]


def test_a_rank_alone_has_the_whole_batch_and_labels_are_counted_from_0(tmp_path):
    rows, labels = np.array([4, 2, 9]), np.array([0, 0, 1])
    own = own_part((rows, labels))
    assert np.array_equal(own[0], rows) and np.array_equal(own[1], labels)
    Image.new("RGB", (8, 6)).save(tmp_path / "@1@0@.png")
    table = read_folder(tmp_path)
    assert LabelledTable(table, labels).count == 2 and LabelledTable(table, labels[:0]).count == 0
