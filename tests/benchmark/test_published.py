import re

import pytest
from locations import CONFORMANCE

from vgbench.benchmark.published import published_models, published_results
from vgbench.errors import UserError
from vgbench.report.labels import dataset_label, main_threshold

REFERENCE = CONFORMANCE / "published_results.md"


def number(model, trained_on, label, value="1"):
    [found] = [
        one["recalls"][main_threshold(one)][value]
        for one in published_results([model])
        if f" on {trained_on} [" in one["name"] and dataset_label(one) == label
    ]
    return found


def test_some_numbers_that_everybody_knows():
    assert number("resnet18-netvlad", "pitts30k", "pitts30k") == 86.4
    assert number("cct384-netvlad", "msls", "msls") == 85.1
    assert number("resnet50-convap 8192", "gsv_cities", "nordland", "5") == 58.8
    assert number("dinov2b-salad", "gsv_cities", "msls val", "10") == 97.0


def test_every_name_stands_for_one_number_a_dataset():
    keys = [(one["name"], dataset_label(one)) for one in published_results()]
    assert len(keys) == len(set(keys)) > 100


def test_an_unknown_model_is_one_line():
    with pytest.raises(UserError, match=r"no numbers of resnet19-gem\. Expected some of: .*resnet18-gem"):
        published_results(["resnet19-gem"])


def test_agrees_with_the_reference_tables():
    known = 0
    for line in REFERENCE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] not in published_models() or len(cells) != 5:
            continue
        columns = [("pitts30k", "pitts30k"), ("pitts30k", "msls"), ("msls", "pitts30k"), ("msls", "msls")]
        for text, (trained_on, dataset) in zip(cells[1:], columns, strict=True):
            if text:
                assert number(cells[0], trained_on, dataset) == float(text), (cells[0], trained_on, dataset)
                known += 1
    assert known >= 46
    published = sorted(v for one in published_results() for v in one["recalls"]["25"].values())
    written = sorted(float(n) for n in re.findall(r"(?<![\d.=])\d\d\.\d(?!\d)", _tables_only(REFERENCE.read_text())))
    assert published == written


def _tables_only(text):
    """The numbers of recall in the tables: without the columns s and m of the margin losses."""
    lines = []
    for line in text.splitlines():
        cells = line.strip("|").split("|")
        if "Face" in cells[0] and len(cells) == 6:
            cells = [cells[0], *cells[3:]]
        lines.append(" ".join(cells))
    return "\n".join(lines)
