"""The experiment file: every setting explained, mistakes told all at once with the nearest names, overrides typed."""

from __future__ import annotations

import pytest

from pellucid.core import settings
from pellucid.core.errors import SettingError
from pellucid.core.settings import Settings, in_words, load, load_sweep

SECTIONS = {name: field.annotation for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_a_description_and_a_valid_default(section):
    """Each is a sentence a user can act on, and what isn't given is valid as it stands."""
    model = SECTIONS[section]
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, f"{section}.{name}"
        assert field.description.endswith("."), f"{section}.{name}: {field.description}"
        assert not field.is_required(), f"{section}.{name}"
    model()


def test_an_unknown_setting_offers_the_nearest():
    """The message gives file, section and name; a program finds the near names as an attribute."""
    with pytest.raises(SettingError, match=r'^x\.toml \[run\]: "titel" is no setting\. Did you mean "title"\?$') as caught:
        settings.parse({"run": {"titel": "x"}}, where="x.toml")
    assert caught.value.near == ("title",)


def test_an_unknown_section_offers_the_nearest():
    """A whole table that doesn't exist is named as such."""
    with pytest.raises(SettingError, match=r'"techer" is no section\. Did you mean "teacher"\?'):
        settings.parse({"techer": {"lr": 1}})


def test_all_problems_come_in_one_message():
    """An unknown setting, a wrong type, a value out of range, one that is no choice, and a value in place of a section."""
    content = {"run": {"titel": 1}, "teacher": {"lr": "fast", "epochs": -1, "schedule": "cosin"}, "explain": 5, "data": {"size": 4}}
    with pytest.raises(SettingError) as caught:
        settings.parse(content, where="x.toml")
    message = str(caught.value)
    for part in (
        '"titel" is no setting',
        "[teacher] lr = 'fast'",
        "[teacher] epochs = -1",
        "[teacher] schedule = 'cosin'",
        "[data] size = 4",
        "explain = 5",
    ):
        assert part in message
    assert "\n" not in message
    assert "[]" not in message


def test_settings_of_parts_are_kept_for_the_part():
    """What a section doesn't know belongs to the model, the loss, the source, or (as a table) the explainer."""
    found = settings.parse(
        {"student": {"preset": "small"}, "distill": {"alpha": 0.4}, "explain": {"grad_cam": {"tap": "conv3"}}, "data": {"n_subjects": 8}}
    )
    assert found.student.options == {"preset": "small"}
    assert found.distill.options == {"alpha": 0.4}
    assert found.explain.options == {"grad_cam": {"tap": "conv3"}}
    assert found.data.options == {"n_subjects": 8}
    assert Settings().distill.options == {}


@pytest.mark.parametrize(
    ("override", "section", "name", "value"),
    [
        ("teacher.epochs=3", "teacher", "epochs", 3),
        ("student.lr=1e-3", "student", "lr", 0.001),
        ("teacher.pretrained=true", "teacher", "pretrained", True),
        ('data.source="a = b"', "data", "source", "a = b"),
        ("data.source=../my images/ä.zip", "data", "source", "../my images/ä.zip"),
        ('data.where=source == "odir"', "data", "where", 'source == "odir"'),
        ('data.view_parts=["crop"]', "data", "view_parts", ["crop"]),
        ("data.window=[0, 80.5]", "data", "window", (0.0, 80.5)),
        (" run.seed = 7 ", "run", "seed", 7),
        ("run.title=", "run", "title", ""),
    ],
)
def test_overrides_are_read_as_toml_else_as_text(override, section, name, value):
    """Numbers, booleans and lists are what TOML says; a bare word needs no quotes in a shell."""
    found = getattr(getattr(settings.from_overrides([override]), section), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["2024", "true", "1e5", "2024-05-01"])
def test_text_that_looks_like_a_number_stays_text(text):
    """A folder may be called 2024: where a setting is text, an override needs no second pair of quotes."""
    assert settings.from_overrides([f"data.source={text}"]).data.source == text


def test_overrides_win_over_the_file_and_reach_deep(tmp_path):
    """The last one said counts, and a dotted key makes the tables it needs."""
    path = tmp_path / "ä b.toml"
    path.write_text("[teacher]\nepochs = 3\nlr = 0.5\n", encoding="utf-8")
    found = settings.load(path, ["teacher.epochs=4", "teacher.epochs=5", "explain.grad_cam.tap=conv2"])
    assert (found.teacher.epochs, found.teacher.lr) == (5, 0.5)
    assert found.explain.options == {"grad_cam": {"tap": "conv2"}}


@pytest.mark.parametrize("override", ["teacher.epochs", "epochs=3", "=3", "teacher.=3", ".epochs=3", "--help"])
def test_a_malformed_override_says_how_it_looks(override):
    """The text that was given stands in the message, with an example."""
    with pytest.raises(SettingError, match=r"an override looks like section\.setting=value") as caught:
        settings.from_overrides([override])
    assert override in str(caught.value)


def test_an_override_through_a_value_is_refused():
    """`teacher.lr.x=1` would overwrite a number with a table."""
    with pytest.raises(SettingError, match="lr is a value, not a section"):
        settings.from_overrides(["teacher.lr=1", "teacher.lr.x=1"])


@pytest.mark.parametrize("content", [b"[data\n", b"\xff\xfe\x00", b"a = 1\na = 2\n", b"\x00\x01"])
def test_what_is_no_toml_is_named_with_its_path(tmp_path, content):
    """Broken, binary and double are all told in one line with the file's name."""
    path = tmp_path / "ä b.toml"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=r"ä b\.toml: not a readable experiment file") as caught:
        settings.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    """The message names the file and the command."""
    with pytest.raises(SettingError, match=r"x\.toml: there is no such file\. `pellucid init FOLDER` writes one\."):
        settings.load(tmp_path / "x.toml")


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0"])
def test_a_learning_rate_is_a_positive_number(value):
    """NaN and infinity are no learning rates either."""
    with pytest.raises(SettingError, match="lr = "):
        settings.from_overrides([f"teacher.lr={value}"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"std": [0.0]}, r"\[data\] std = \[0\.0\]: each must be above 0"),
        ({"std": [0.2, -0.2, 0.2]}, "each must be above 0"),
        ({"window": [9, 9]}, r"\[data\] window = \[9, 9\]: the first value must be below the second"),
        ({"window": [10, 1]}, "the first value must be below the second"),
    ],
)
def test_settings_that_would_spoil_every_pixel_are_refused(values, message):
    """Division by zero, mirrored values, or a picture of black and white alone."""
    with pytest.raises(SettingError, match=message):
        settings.parse({"data": values})


def sweep_file(tmp_path, section):
    path = tmp_path / "x.toml"
    path.write_text(f"[distill]\nalpha = 0.4\n{section}\n")
    return path


def test_axes_may_be_quoted_or_nested_and_keep_their_order(tmp_path):
    """TOML reads distill.alpha as a table in a table; both spellings are the same axis."""
    content, sweep = load_sweep(sweep_file(tmp_path, '[sweep]\n"run.seed" = [0, 1]\ndistill.alpha = [0.4, 0.7]\nchoose = "auc"'))
    assert list(sweep.axes.items()) == [("run.seed", [0, 1]), ("distill.alpha", [0.4, 0.7])]
    assert sweep.choose == "auc" and sweep.reports == "chosen"
    assert content == {"distill": {"alpha": 0.4}}


def test_an_axis_can_be_given_on_the_command_line(tmp_path):
    _, sweep = load_sweep(sweep_file(tmp_path, ""), ["sweep.distill.temperature=[5, 10]"])
    assert sweep.axes == {"distill.temperature": [5, 10]}


@pytest.mark.parametrize("axis", ['"distill.alpha"', "distill.alpha"])
def test_an_axis_is_changed_in_whichever_spelling_it_stands(tmp_path, axis):
    _, sweep = load_sweep(sweep_file(tmp_path, f"[sweep]\n{axis} = [0.4, 0.7]"), ["sweep.distill.alpha=[0.5]"])
    assert sweep.axes == {"distill.alpha": [0.5]}


def test_one_value_for_what_is_varied_is_refused(tmp_path):
    """It would say nothing, for each run has a value of the axis."""
    path = sweep_file(tmp_path, "[sweep]\ndistill.alpha = [0.4, 0.7]")
    with pytest.raises(SettingError, match=r"distill.alpha is varied, so one value for it says nothing: write sweep.distill.alpha=\[...\]"):
        load_sweep(path, ["distill.alpha=0.9"])
    assert load(path, ["distill.alpha=0.9"]).distill.options == {"alpha": 0.9}


def test_a_run_leaves_the_sweep_section_alone(tmp_path):
    assert load(sweep_file(tmp_path, "[sweep]\ndistill.alpha = [0.7]")).distill.options == {"alpha": 0.4}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("", "has no [sweep] section"),
        ("[sweep]", "names no setting to vary"),
        ("[sweep]\nalpha = [1]", '"alpha" is no setting of a sweep, and an axis has a section, e.g. "distill.alpha"'),
        ("[sweep]\nchose = 'auc'", 'Did you mean "choose"?'),
        ("[sweep]\nchoose = 'aux'\ndistill.alpha = [1]", "[sweep] choose = 'aux'"),
        ("[sweep]\ndistil.alpha = [1]", 'there is no section "distil". Did you mean "distill"?'),
        ("[sweep]\ndistill.alpha = 0.4", "distill.alpha = 0.4: an axis is a list"),
        ("[sweep]\ndistill.alpha = []", "an axis is a list with at least one value"),
        ("[sweep]\ndistill.alpha = [0.4, 0.7, 0.4]", "distill.alpha holds 0.4 twice"),
        ("[sweep]\nrun.out = ['a', 'b']", "run.out can't be varied"),
        ("[sweep]\nrun.sed = [1]", '"run.sed" is no setting'),
        ("[sweep]\ndistil.alpha = [1]\nrun.out = ['a']", "run.out can't be varied"),
        ("[sweep]\ndistill.alpha = [0.4]\n'distill.alpha' = [0.7]", "distill.alpha is given twice"),
        (f"[sweep]\nrun.seed = {list(range(10_001))}", "run.seed holds 10,001 values. A sweep has at most 10,000 runs"),
        (f"[sweep]\nrun.seed = {list(range(101))}\ndata.fold = {list(range(100))}", "the axes make 10,100 runs together"),
    ],
)
def test_a_sweep_that_cannot_be_made_is_refused_with_all_that_is_wrong(section, message, tmp_path):
    with pytest.raises(SettingError) as caught:
        load_sweep(sweep_file(tmp_path, section))
    assert message in str(caught.value) and "x.toml" in str(caught.value)


@pytest.mark.parametrize("key", ["data.size.x", "data.size.x.y"])
def test_an_axis_inside_a_value_is_refused(key):
    with pytest.raises(SettingError, match="size is a value, not a section"):
        settings.varied({"data": {"size": 32}}, {key: 1})


def test_a_file_in_place_of_a_folder_is_no_experiment_file(tmp_path):
    with pytest.raises(SettingError, match="not a readable experiment file"):
        load(sweep_file(tmp_path, "") / "y.toml")


def test_varied_settings_are_told_apart_in_words():
    assert in_words({"distill.alpha": 0.4, "run.seed": 1}) == "alpha 0.4, seed 1"
    assert in_words({"teacher.epochs": 1, "student.epochs": 2}) == "teacher.epochs 1, student.epochs 2"
    assert in_words({"explain.methods": ["grad_cam", "kernel_shap"]}) == "methods grad_cam+kernel_shap"


def test_a_list_given_as_a_word_is_told_how_lists_are_written():
    with pytest.raises(SettingError, match=r"""valid list. Write it as 'explain.methods=\["..."\]'"""):
        settings.from_overrides(["explain.methods=grad_cam"])
