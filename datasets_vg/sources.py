"""What a row of the catalogue is made of: archives and where they lie, parts, counts, papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Http:
    """A file of a web server.

    Attributes:
        url: its address.
        file: what it is called here; the last part of the address where empty.
        checksum: "md5:<hex>" or "sha256:<hex>" where its publisher gives one.
        may_be_empty: some of a series are published empty and are skipped.
    """

    url: str
    file: str = ""
    checksum: str = ""
    may_be_empty: bool = False

    @property
    def name(self) -> str:
        return self.file or self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Drive:
    """A file of Google Drive, by its id."""

    id: str
    name: str
    checksum: str = ""

    @property
    def url(self) -> str:
        return f"https://drive.google.com/uc?id={self.id}"


@dataclass(frozen=True)
class Rsync:
    """A folder (or a file) of a server that only the rsync program can talk to; it arrives as `name`."""

    url: str
    name: str


Archive = Http | Drive | Rsync


@dataclass(frozen=True)
class Part:
    """What can be asked for by `--part`.

    Attributes:
        about: what it is, in a few words.
        archives: what is fetched without a person; none where a form, a token or an e-mail stands before it.
        gigabytes: about how much is fetched; 0 where nobody says.
        default: whether it is made when no part is named.
        wanted: which raw files it is made of, for the message when they miss.
        completes: it is fetched also where the other parts come from the user's raw files and it is not among them.
    """

    about: str
    archives: tuple[Archive, ...] = ()
    gigabytes: float = 0.0
    default: bool = True
    wanted: str = ""
    completes: bool = False


COUNTED, STATED = "counted from a published list", "stated by its authors"
REPORTED, ROUNDED = "second-hand, may be wrong", "a rounded number"
"""How sure a published count is."""
_ROUNDING = 0.03


@dataclass(frozen=True)
class Count:
    """A published number of images and how sure it is (COUNTED, STATED, REPORTED or ROUNDED)."""

    images: int
    mark: str = COUNTED

    def agrees(self, images: int) -> bool:
        """Whether a number of images is this one, as far as its mark lets one say."""
        return abs(images - self.images) <= (_ROUNDING * self.images if self.mark == ROUNDED else 0)


@dataclass(frozen=True)
class Paper:
    """What to cite."""

    key: str
    authors: str
    title: str
    venue: str
    year: int

    def bibtex(self) -> str:
        """Return the entry of a .bib file."""
        lines = {"author": self.authors, "title": f"{{{self.title}}}", "booktitle": self.venue, "year": str(self.year)}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in lines.items())
        return f"@inproceedings{{{self.key},\n{body}\n}}\n"

    def __str__(self) -> str:
        first = self.authors.partition(" and ")[0].partition(",")[0]
        return f"{first}{' et al.' if ' and ' in self.authors else ''}, {self.title}, {self.venue} {self.year}"


@dataclass(frozen=True)
class Entry:
    """One dataset.

    Attributes:
        about: what it shows, in a few words.
        source: who gives the raw archives, and where to ask.
        preparer: its file in datasets_vg/prepare/.
        terms: on what conditions it may be used, as far as known.
        papers: what to cite.
        parts: by name; a set without parts has the one called "all".
        counts: published numbers of images by folder below images/, such as "test/database".
        layout: how its images are laid out below <datasets_folder>/<name>/.
        note: what else its users must know, such as a threshold of its own.
        packed: names of archives that a user may have downloaded, with * and ?; those which are fetched go without
            saying.
        threshold: within how many metres papers count a prediction as right, where that is not the usual 25.
    """

    about: str
    source: str
    preparer: str
    terms: str = ""
    papers: tuple[Paper, ...] = ()
    parts: Mapping[str, Part] = field(default_factory=lambda: {"all": Part("everything")})
    counts: Mapping[str, Count] = field(default_factory=dict)
    layout: str = "images/{train,val,test}/{database,queries}"
    note: str = ""
    packed: tuple[str, ...] = ()
    threshold: float | None = None

    @property
    def archives(self) -> tuple[str, ...]:
        """The names, or patterns, of all archives that its raw files may come in."""
        fetched = {a.name for part in self.parts.values() for a in part.archives if not isinstance(a, Rsync)}
        return (*self.packed, *sorted(fetched))

    @property
    def fetched(self) -> bool:
        """Whether everything that is made by default is fetched without a person."""
        return all(part.archives for part in self.parts.values() if part.default)
