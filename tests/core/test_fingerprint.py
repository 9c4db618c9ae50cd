"""Fingerprints change with what went in, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.core.fingerprint import fingerprint, of_array, of_bytes, of_file


def test_fingerprint_is_the_sha256_of_canonical_json():
    """Golden: printf '["a",1,0.1,null,[1,2],{"a":2,"b":1}]' | sha256sum | cut -c1-16."""
    assert fingerprint("a", 1, 0.1, None, (1, 2), {"b": 1, "a": 2}) == "17b0f35dd92a02d1"


def test_fingerprint_ignores_key_order_and_the_kind_of_number_and_path():
    """The same values in NumPy, tuple or Path form, and dicts in another order, find the same result."""
    assert fingerprint({"a": 1, "b": [2.5]}) == fingerprint({"b": (np.float64(2.5),), "a": np.int64(1)})
    assert fingerprint(Path("ä b/c")) == fingerprint("ä b/c")


@pytest.mark.parametrize("other", [[1, 2, "3"], [1, 2], [1, 3, 2], [1, 2, 3.0], [1, 2, 3, None], [[1, 2], 3]])
def test_fingerprint_tells_apart(other):
    """Type, order, number and nesting all count."""
    assert fingerprint(*other) != fingerprint(1, 2, 3)


def test_fingerprint_refuses_what_has_no_plain_form():
    """An object's memory address must never become part of a key."""
    with pytest.raises(TypeError, match="can't be taken of object"):
        fingerprint(object())


def test_bytes_in_any_chunks_and_files_agree(tmp_path):
    """Golden: SHA-256 of "abc" (FIPS 180-2, B.1). The file's name and date play no part."""
    (tmp_path / "x").write_bytes(b"abc")
    assert of_bytes([b"ab", b"", b"c"]) == of_file(tmp_path / "x") == "ba7816bf8f01cfea"


def test_arrays_differ_by_value_type_and_shape_but_not_by_memory_layout():
    """A transposed view equals its copy; the same numbers in another type or shape are another input."""
    array = np.arange(6).reshape(2, 3)
    same = [array.copy(), np.asfortranarray(array), array.T.copy().T]
    assert {of_array(a) for a in same} == {of_array(array)}
    others = [array.astype(np.int32), array.reshape(3, 2), array + 1]
    assert len({of_array(a) for a in [array, *others]}) == 4
