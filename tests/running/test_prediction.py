"""Prediction on files: the same numbers as evaluation, in the order asked for, whatever the batch."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pellucid.core.errors import RunError, SettingError, SourceError, UnreadableError, WeightsError
from pellucid.core.records import ImageSpec, Task
from pellucid.models.build import build
from pellucid.models.saved import Network
from pellucid.running import prediction
from pellucid.running.prediction import predict_files


def network(channels):
    model = build("cnn5", n_classes=3, channels=channels, size=32, preset="small", seed=3)
    spec = ImageSpec(32, channels, (0.4,) * channels, (0.2,) * channels, stored_size=48, fit="pad")
    return Network(model, spec, Task("single", ("x", "ü", "z")), "cnn5", {"preset": "small"})


@pytest.fixture(params=[1, 3], ids=["grey", "rgb"])
def folder(request, tmp_path):
    """A network, and seven images of several sizes, kinds and colours in two folders."""
    network(request.param).save(tmp_path / "student.safetensors")
    draws = np.random.default_rng(0)
    (tmp_path / "bilder" / "tief").mkdir(parents=True)
    for i, (mode, name) in enumerate(
        [("L", "b.png"), ("RGB", "a.jpg"), ("RGBA", "c.png"), ("P", "tief/d.png"), ("L", "e.bmp"), ("I;16", "f.tif"), ("RGB", "tief/g.png")]
    ):
        shape = (40 + i, 60 - i)
        if mode == "I;16":
            picture = Image.fromarray(draws.integers(0, 65535, shape, dtype=np.uint16))
        else:
            picture = Image.fromarray(draws.integers(0, 256, (*shape, 3), dtype=np.uint8)).convert(mode)
        picture.save(tmp_path / "bilder" / name)
    (tmp_path / "bilder" / ".hidden.png").write_bytes(b"")
    return tmp_path


def test_files_come_in_the_order_asked_for_and_folders_by_name(folder):
    """A folder is searched at any depth, hidden files are left out, and a file may come before it."""
    rows = predict_files(folder, [folder / "bilder" / "f.tif", folder / "bilder"])
    names = [str(row[0]).removeprefix(f"{folder}/bilder/") for row in rows]
    assert names == ["file", "f.tif", "a.jpg", "b.png", "c.png", "e.bmp", "f.tif", "tief/d.png", "tief/g.png"]
    assert rows[0] == ["file", "class", "probability", "x", "ü", "z"]
    assert rows[1][1:] == rows[6][1:]


def test_probabilities_add_up_and_name_the_class(folder):
    """To the four decimals that are printed."""
    for row in predict_files(folder, [folder / "bilder"])[1:]:
        probabilities = [float(value) for value in row[3:]]
        assert sum(probabilities) == pytest.approx(1, abs=2e-4)
        assert row[1] == ["x", "ü", "z"][int(np.argmax(probabilities))]
        assert float(row[2]) == max(probabilities)


def test_the_batch_makes_no_difference(folder, monkeypatch):
    """One by one, and all at once."""
    whole = predict_files(folder, [folder / "bilder"])
    monkeypatch.setattr(prediction, "BATCH", 1)
    single = predict_files(folder, [folder / "bilder"])
    assert [row[:2] for row in single] == [row[:2] for row in whole]
    for one, other in zip(single[1:], whole[1:], strict=True):
        assert [float(v) for v in one[2:]] == pytest.approx([float(v) for v in other[2:]], abs=1.1e-4)


def test_broken_files_stop_all_or_are_told_in_their_line(folder):
    """All of them are listed; with skip the others' numbers are what they were."""
    good = predict_files(folder, [folder / "bilder"])
    stream = io.BytesIO()
    Image.new("L", (50, 50), 7).save(stream, "PNG")
    (folder / "bilder" / "a0.png").write_bytes(stream.getvalue()[:40])
    (folder / "bilder" / "z.png").write_bytes(b"")
    with pytest.raises(UnreadableError, match="2 of 9 images can't be read") as caught:
        predict_files(folder, [folder / "bilder"])
    assert len(caught.value.files) == 2
    rows = predict_files(folder, [folder / "bilder"], on_error="skip")
    assert [row for row in rows if not row[1].startswith("unreadable")] == good
    broken = [row for row in rows if row[1].startswith("unreadable")]
    assert [row[1] for row in broken] == ["unreadable: ends early", "unreadable: empty"]
    assert all(len(row) == 6 for row in broken)


def test_only_broken_files_are_an_error_even_with_skip(folder):
    """There is nothing to answer."""
    (folder / "z.png").write_bytes(b"")
    with pytest.raises(UnreadableError, match="1 of 1 images"):
        predict_files(folder, [folder / "z.png"], on_error="skip")


def test_what_is_absent_is_named(folder, tmp_path_factory):
    """Files, networks, and a run that has no student yet."""
    with pytest.raises(SourceError, match=r"no such file or folder: .*nope\.png, .*nope2"):
        predict_files(folder, [folder / "nope.png", folder / "bilder", folder / "nope2"])
    with pytest.raises(WeightsError, match=r"net\.safetensors: there is no such file"):
        predict_files(folder / "net.safetensors", [folder / "bilder"])
    with pytest.raises(RunError, match="holds no student yet"):
        predict_files(tmp_path_factory.mktemp("run"), [folder / "bilder"])
    with pytest.raises(SettingError, match='--on-error "ignore": stop or skip'):
        predict_files(folder, [folder / "bilder"], on_error="ignore")
