"""What to cite: the BibTeX entries of the methods a run used."""

from __future__ import annotations

import re
from importlib import resources

from pellucid.core.records import RunRecord

# What a run may hold (an architecture's beginning, an explainer, a loss, a measure): keys in templates/citations.bib.
SOURCES: dict[str, tuple[str, ...]] = {
    "cnn5": ("jiang2025",),
    "densenet": ("huang2017",),
    "resnet": ("he2016",),
    "logit_kd": ("hinton2015",),
    "average_feature_map": ("jiang2025",),
    "grad_cam": ("selvaraju2017",),
    "grad_cam_pp": ("chattopadhay2018",),
    "hires_cam": ("draelos2020",),
    "layer_cam": ("jiang2021",),
    "eigen_cam": ("muhammad2020",),
    "ablation_cam": ("desai2020",),
    "score_cam": ("wang2020",),
    "fem": ("fuad2020",),
    "gradient_shap": ("lundberg2017", "kokhlikyan2020"),
    "attention_rollout": ("abnar2020", "chefer2021"),
    "integrated_gradients": ("sundararajan2017", "kokhlikyan2020"),
    "occlusion": ("zeiler2014",),
    "kernel_shap": ("lundberg2017", "kokhlikyan2020", "achanta2012"),
    "met": ("jiang2025",),
    "pointing_game": ("zhang2018",),
    "relevance_mass": ("arras2022",),
    "relevance_rank": ("arras2022",),
    "randomisation": ("adebayo2018",),
    "insertion_auc": ("petsiuk2018",),
    "road": ("rong2022",),
    "ece": ("naeini2015",),
    "ece_scaled": ("guo2017",),
    "similarity": ("spearman1904",),
}


def bibtex(record: RunRecord) -> str:
    """Return the entries of everything this run used, in the order of their keys."""
    used = [n.architecture for n in record.networks.values()] + [e.method for e in record.cases.explanations]
    used += [str(record.settings.get("distill", {}).get("loss", "")), *(m.name for m in record.measurements)]
    wanted = {key for name in used for start, keys in SOURCES.items() if _names(name, start) for key in keys}
    if any(m.method.startswith("bootstrap") for m in record.measurements):
        wanted.add("efron1994")
    known = entries()
    return "\n\n".join(known[key] for key in sorted(wanted) if key in known)


def _names(name: str, start: str) -> bool:
    return name == start or (start in ("densenet", "resnet") and name.startswith(start))


def entries() -> dict[str, str]:
    """Return every BibTeX entry by its key."""
    text = resources.files("pellucid.reporting").joinpath("templates", "citations.bib").read_text(encoding="utf-8")
    return {match["key"]: match[0].strip() for match in re.finditer(r"@\w+\{(?P<key>\w+),.*?^\}", text, re.S | re.M)}
