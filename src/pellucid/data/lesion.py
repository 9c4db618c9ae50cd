"""Lesions for drawn heads: solid, ring-shaped and diffuse ones, each with the share of every pixel that it covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pellucid.core import rng
from pellucid.data.brain import Anatomy, Grid, Slice, blend, edge, waves

KINDS = ("solid", "ring", "diffuse")
_RADII = {"solid": (0.095, 0.20), "ring": (0.115, 0.23), "diffuse": (0.16, 0.28)}


@dataclass(frozen=True)
class Lesion:
    """One lesion where a slice cuts it. Lengths as in :mod:`pellucid.data.brain`."""

    kind: str
    x: float
    y: float
    radius: float
    lobes: np.ndarray  # [3, 2] strength and phase of the outline's waves
    bright: float  # of what takes up contrast medium
    dark: float  # of a ring's core and of a diffuse lesion
    rim: float  # thickness as a share of the radius
    oedema: float  # strength of the dark rim around it
    mottle: np.ndarray  # [6, 3] waves


def choose(kind: str, head: Anatomy, seed: int, offset: float) -> Lesion:
    """Draw a lesion's place and looks.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    head : Anatomy
        It lies within this brain.
    seed : int
        Same seed, same lesion.
    offset : float
        Where the slice cuts it, -1 to 1: 0 is its middle, towards the ends it is smaller.
    """
    draws = rng.generator(seed, "phantom/lesion")
    u = draws.random(8)
    low, high = _RADII[kind]
    radius = low + (high - low) * u[0]
    angle, reach = 2 * np.pi * u[1], np.sqrt(0.10 + 0.90 * u[2])
    half_width, half_length = head.brain_radii - 0.7 * radius
    lobes = np.stack([np.array([0.11, 0.08, 0.06]) * (0.4 + draws.random(3)), 2 * np.pi * draws.random(3)], axis=1)
    mottle = np.stack([70 * draws.random(6) - 35, 70 * draws.random(6) - 35, 2 * np.pi * draws.random(6)], axis=1)
    return Lesion(
        kind=kind,
        x=float(half_width * reach * np.cos(angle)),
        y=float(half_length * reach * np.sin(angle)),
        radius=float(radius * np.sqrt(1 - offset**2)),
        lobes=lobes,
        bright=float(0.74 + 0.18 * u[3]),
        dark=float(0.20 + 0.11 * u[4]),
        rim=float(0.18 + 0.18 * u[5]),
        oedema=float(0.7 * u[6]),
        mottle=mottle,
    )


def add(lesion: Lesion, drawn: Slice, at: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return the image with the lesion, and how much of each pixel it covers (0 to 1); oedema around it doesn't count."""
    dx, dy = at.x - lesion.x, at.y - lesion.y
    angle, distance = np.arctan2(dy, dx), np.hypot(dx, dy)
    border = np.full_like(angle, lesion.radius)
    for number, (strength, phase) in enumerate(lesion.lobes):
        border += lesion.radius * strength * np.cos((number + 2) * angle + phase)
    mottle = waves(lesion.mottle, at.x, at.y)
    in_brain = edge(drawn.depth - 0.01, 2 * at.soft)
    if lesion.kind == "diffuse":
        covered = in_brain * edge(border * (1 + 0.12 * mottle) - distance, 0.12 * lesion.radius + 2 * at.soft)
        return blend(drawn.image, lesion.dark + 0.08 + 0.02 * mottle, 0.75 * covered), covered
    covered = in_brain * edge(border - distance, 1.5 * at.soft)
    around = np.exp(-((np.maximum(distance - border, 0) / (0.4 * lesion.radius)) ** 2)) * in_brain * edge(drawn.from_fluid - 0.02, 0.02)
    image = blend(drawn.image, 0.32, 0.7 * lesion.oedema * around)
    tissue = lesion.bright + 0.02 * mottle
    if lesion.kind == "ring":
        thickness = lesion.rim * (1 + 0.5 * np.cos(angle + lesion.lobes[0, 1]))
        tissue = blend(tissue, lesion.dark + 0.02 * mottle, edge(border * (1 - thickness) - distance, 1.5 * at.soft))
    return blend(image, tissue, covered), covered
