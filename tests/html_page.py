"""What a browser would see of an HTML page."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Counts what a browser would see, and refuses tags that do not close."""

    VOID = ("meta", "img", "input", "br", "line", "circle", "path", "polyline")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open and self.open.pop() == tag, tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def of_class(self, name):
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))
