import re

import pytest
from locations import CONFORMANCE, REPOSITORY

from vgbench.benchmark.matrix import read_matrix
from vgbench.benchmark.published import _plain, differences_table, published_models, published_results
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
    assert number("resnet50-convap 8192", "gsv_cities", "nordland_vprbench", "5") == 58.8
    assert number("dinov2b-salad", "gsv_cities", "msls 740 val", "10") == 97.0


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


def test_ours_beside_the_published_and_never_across_protocols():
    def ours(name, recall, dataset, **more):
        return {"name": name, "dataset": dataset, "recalls": {"25": {"1": recall, "5": 99.0}}, **more}

    results = [
        ours("resnet18-gem on pitts30k", 78.3, "pitts30k"),
        ours("resnet18-gem random mining on pitts30k", 70.0, "msls"),
        ours("dinov2b-salad on gsv_cities", 92.0, "msls", split="val", queries_folder="queries_740"),
        ours("dinov2b-salad on gsv_cities", 91.0, "msls", split="val"),
        ours("mine", 91.0, "pitts30k"),
    ]
    lines = differences_table(results, published_results()).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[1:] for row in cells] == [
        ["pitts30k R@1", "78.3", "77.8", "+0.5"],
        ["msls R@1", "70.0", "30.5", "+39.5"],
        ["msls 740 val R@1", "92.0", "92.2", "-0.2"],
        ["msls 740 val R@5", "99.0", "96.4", "+2.6"],
    ]
    assert differences_table(results[-1:], published_results()) == ""


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "benchmarks/published").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_published_matrices_can_be_read(file):
    matrix = read_matrix(file)
    assert matrix.jobs and (file.stem == "vpr_methods" or matrix.published)


def test_every_published_number_has_a_run_that_it_stands_beside():
    """But the challenge's, which is of six cities: `datasets_vg msls score` has it."""
    tested = set()
    for file in sorted((REPOSITORY / "benchmarks/published").glob("*.yaml")):
        for job in read_matrix(file).jobs:
            if job.script == "eval":
                tested |= {(job.run, label) for label in _labels(job.options)}
    published = {
        (_plain(one["name"].partition(" [")[0]), dataset_label(one))
        for one in published_results()
        if one["split"] != "challenge"
    }
    assert published <= tested, sorted(published - tested)


def _labels(options):
    sets = options.get("queries_folder", ["queries"])
    for queries in [sets] if isinstance(sets, str) else sets:
        facts = {"dataset": options["dataset_name"], "split": options.get("split", "test"), "queries_folder": queries}
        yield dataset_label(facts | {"recalls": {"25": {}}})
