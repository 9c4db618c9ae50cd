"""The audit of any data, without training anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pellucid.core import files
from pellucid.core import settings as settings_file
from pellucid.core.errors import SettingError, did_you_mean
from pellucid.core.workspace import Workspace
from pellucid.data.audit import as_table
from pellucid.data.load import Data, load
from pellucid.data.probes import nearest_neighbour, shuffled_labels

PROBES: dict[str, Callable[[Data], dict[str, Any]]] = {"nearest-neighbour": nearest_neighbour, "shuffled-labels": shuffled_labels}


def audit_source(source: str, overrides: list[str], probes: list[str], json_to: Path | None) -> tuple[dict[str, Any], str]:
    """Audit a source or an experiment file's data.

    Parameters
    ----------
    source : str
        As ``data.source``, or the path of a ``.toml``.
    overrides : list of str
        ``data.setting=value``.
    probes : list of str
        ``nearest-neighbour``, ``shuffled-labels``.
    json_to : Path or None
        Where the findings are written too.

    Returns
    -------
    (findings as JSON-able dict, the same as a table of plain text)

    Raises
    ------
    SettingError, DataError
        As the messages say.
    """
    for probe in probes:
        if probe not in PROBES:
            raise SettingError(f'"{probe}" is no probe.{did_you_mean(probe, PROBES)} There are: {", ".join(PROBES)}.', setting="probe")
    is_file = source.endswith(".toml")
    asked = settings_file.load(source, overrides) if is_file else settings_file.from_overrides([f"data.source={source}", *overrides])
    # The audit reports a leaking split column instead of refusing it.
    settings = asked.data.model_copy(update={"allow_leak": True})
    data = load(settings, workspace=Workspace(asked.run.workspace or None), beside=Path(source).parent if is_file else None)
    found = {**data.audit, **({"probes": {probe: PROBES[probe](data) for probe in probes}} if probes else {})}
    if json_to is not None:
        files.write_json(json_to, found, kind="audit")
    return found, as_table(found)
