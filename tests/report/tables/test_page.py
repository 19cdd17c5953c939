from html.parser import HTMLParser

from vgbench.report.tables import build_table
from vgbench.report.tables.page import html_page


class Rows(HTMLParser):
    """The number of columns of each row, those of colspan counted."""

    def __init__(self):
        super().__init__()
        self.widths = []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.widths.append(0)
        if tag in ("td", "th"):
            self.widths[-1] += int(dict(attrs).get("colspan", 1))


def test_the_page_has_a_cell_for_each_column_and_escapes_names():
    results = [{"name": "<b>gem", "dataset": "x&y", "recalls": {"25": {"1": one, "5": 2.0}}} for one in (1.0, 3.0)]
    results += [{"name": "other", "dataset": "x&y", "recalls": {"25": {"1": 1.5}}}]
    page = html_page(build_table(results, failures={"bad": "<script>"}), "a & b")
    rows = Rows()
    rows.feed(page)
    width = rows.widths[0]
    assert width == 4 and rows.widths[1] == 2 and all(one == width for one in rows.widths[2:])
    assert "<h1>a &amp; b</h1>" in page and "<li>bad: &lt;script&gt;</li>" in page
    assert "&lt;b&gt;gem" in page and "x&amp;y" in page and "<script>" not in page and "&plusmn; 1.4" in page
