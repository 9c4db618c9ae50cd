"""A table says which images there are; what is wrong with it is said at once and in one line."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pellucid.core.errors import PellucidError, SettingError, SourceError
from pellucid.core.settings import DataSettings
from pellucid.data.find import find

TABLE = """path,label,subject,group,mask,box,age
cat/0.png,cat,p1,g1,m0.png,,7
cat/1.png,cat,p1,g1,,1 2 5 9,
dog/3.png,dog,p2,g1,,,30
dog/4.png,dog,,,,"(0, 0, 3.5, 4)",12
"""


@pytest.fixture
def opened(class_folder):
    """Return a function that writes a table beside the images and opens it."""

    def open_(text: str | bytes, **settings):
        path = class_folder / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return find(DataSettings(source=str(path), **settings))

    mask = np.zeros((12, 12), np.uint8)
    mask[3:6, 2:4] = 255
    Image.fromarray(mask).save(class_folder / "m0.png")
    return open_


def test_all_columns_find_their_place(opened):
    """Subject, group, mask and box have fields of their own, everything else stays a column."""
    dataset = opened(TABLE)
    assert dataset.name == "table"
    assert dataset.ids == ["cat/0.png", "cat/1.png", "dog/3.png", "dog/4.png"]
    assert dataset.targets.tolist() == [0, 0, 1, 1]
    assert dataset.subjects == ["p1", "p1", "p2", ""]
    assert dataset.groups == ["g1", "g1", "g1", ""]
    assert dataset.columns == {"age": ["7", "", "30", "12"]}
    assert dataset.boxes == [None, (1, 2, 5, 9), None, (0, 0, 3.5, 4)]
    assert np.argwhere(dataset.read_mask(0)).min(0).tolist() == [3, 2]
    assert dataset.read_mask(0).sum() == 6
    assert dataset.read_mask(1) is None
    assert dataset.split_units == ["g1", "g1", "g1", "dog/4.png"]


@pytest.mark.parametrize(
    "text",
    [
        "path;label\ncat/0.png;a\ndog/3.png;b\n",
        "path\tlabel\ncat/0.png\ta\ndog/3.png\tb",
        "﻿path,label\r\ncat/0.png,a\r\n\r\ndog/3.png,b\r\n",
    ],
)
def test_tables_as_spreadsheets_write_them(opened, text):
    """Semicolons, tabs, a byte order mark, Windows line ends, blank lines."""
    assert opened(text).task.classes == ("a", "b")


def test_columns_can_have_other_names_and_any_can_be_the_label(opened):
    """The columns named in the settings are used; the file's own `label` is then a column like others."""
    table = "file,label,age,who\ncat/0.png,x,7,p1\ndog/3.png,x,30,p2\ndog/4.png,x,7,p2\n"
    dataset = opened(table, path="file", label="age", subject="who")
    assert dataset.task.classes == ("7", "30")
    assert dataset.subjects == ["p1", "p2", "p2"]
    assert dataset.columns == {"label": ["x", "x", "x"]}


def test_where_is_applied_before_anything_is_checked(opened):
    """Rows that are not asked for may have no label and no file; their classes are gone."""
    table = "path,label,use\ncat/0.png,a,1\ndog/3.png,b,1\nabsent.png,,0\ndog/4.png,c,0\n"
    dataset = opened(table, where="use == 1")
    assert dataset.task.classes == ("a", "b")
    assert dataset.ids == ["cat/0.png", "dog/3.png"]


BAD = [
    (b"", {}, SourceError, r"^table.csv: is empty\."),
    ("path,label\n", {}, SourceError, r"^table.csv: holds a header but no rows\.$"),
    (b"path,label\ncat/0.png,\xff\xfe\n", {}, SourceError, r"^table.csv: not UTF-8 text \(byte 21\)\. Save it as CSV in UTF-8\.$"),
    ("path,Label,age\ncat/0.png,a,1\n", {}, SourceError, r'^table: no column "label" \(data.label\)\. Did you mean "Label"\? There are: path, Label, age\.'),
    ("file,age\ncat/0.png,1\n", {}, SourceError, r'no column "path" \(data.path\)\. no column "label" \(data.label\)\. There are: file, age\.'),
    ("path,label\ncat/0.png,a\n", {"subject": "patient", "mask": "outline"}, SourceError, r'no column "patient" \(data.subject\)\. no column "outline" \(data.mask\)'),
    ("path,label,path\na,b,c\n", {}, SourceError, r"^table.csv: columns named twice: path\.$"),
    ("path,label\ncat/0.png,a,1\ndog/3.png\n", {}, SourceError, r"^table.csv: rows that don't have 2 values as the header has: row 2: 3, row 3: 1\.$"),
    ("path,label\ncat/0.png,a\n,b\n", {}, SourceError, r"^table.csv: rows without a path: 3\.$"),
    ("path,label\ncat/0.png,a\ndog/3.png,b\n./cat/0.png,a\ndog/3.png,b\n", {}, SourceError, r"^table: 2 paths in several rows: cat/0.png \(2 times\), dog/3.png \(2 times\)\."),
    ("path,label\ncat/0.png,a\nx.png,b\ny.png,b\n", {}, SourceError, r"^table: 2 files not there: x.png, y.png\. Paths are read relative to the manifest\.$"),
    ("path,label,mask\ncat/0.png,a,no.png\ndog/3.png,b,\n", {}, SourceError, r"^table: 1 file not there: no.png\."),
    ("path,label\ncat/0.png,a\ndog/3.png,\ndog/4.png, \n", {}, SourceError, r'^table: 2 images without a value in column "label" \(dog/3.png, dog/4.png\)\.'),
    ("path,label\ncat/0.png,a\ndog/3.png,a\n", {}, SourceError, r'^table: all 2 images are of one class \("a"\)\.'),
    ("path,label,box\ncat/0.png,a,1 2 3\ndog/3.png,b,5 5 1 1\n", {}, SourceError, r'^table: 2 boxes can\'t be read: "1 2 3", "5 5 1 1"\.'),
    (TABLE, {"where": "age > 99"}, SourceError, r'^table: data.where = "age > 99" keeps none of the images\.$'),
    (TABLE, {"where": "sex == 1"}, SettingError, r'^data.where: there is no column "sex"\. There are: path, label'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "settings", "kind", "message"), BAD)
def test_what_is_wrong_with_a_table_is_said_in_one_line(opened, text, settings, kind, message):
    """Everything of a kind at once, with the names that help."""
    with pytest.raises(PellucidError, match=message) as caught:
        opened(text, **settings)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_many_absent_files_are_counted(opened):
    """The first few are named, the rest counted."""
    rows = "".join(f"no{i}.png,{'ab'[i % 2]}\n" for i in range(1200))
    with pytest.raises(SourceError, match=r"1,200 files not there: no0.png, no1.png, no2.png, no3.png, no4.png, and 1,195 more"):
        opened("path,label\n" + rows)


def test_masks_of_zero_and_one_and_with_soft_edges(opened, class_folder):
    """White is the finding, whether white is 1 or 255; JPEG's ringing is not."""
    ones = np.zeros((12, 12), np.uint8)
    ones[0, 0] = 1
    Image.fromarray(ones).save(class_folder / "ones.png")
    block = np.zeros((12, 12), np.uint8)
    block[2:8, 2:8] = 255
    stream = io.BytesIO()
    Image.fromarray(block).save(stream, "JPEG", quality=60)
    (class_folder / "soft.jpg").write_bytes(stream.getvalue())
    dataset = opened("path,label,mask\ncat/0.png,a,ones.png\ndog/3.png,b,soft.jpg\n")
    assert dataset.read_mask(0).sum() == 1
    assert np.array_equal(dataset.read_mask(1), block > 0)
