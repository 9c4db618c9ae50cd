"""Draw the README's picture from the demo's run; what was computed before is not computed again.

python examples/readme_figure.py
"""

from pathlib import Path

import pellucid as pl
from pellucid.core.files import write_bytes
from pellucid.reporting.figures.readme import readme_figure

ROOT = Path(__file__).parents[1]

record = pl.run(ROOT / "recipes/phantom.toml")
write_bytes(ROOT / "docs/images/phantom.svg", readme_figure(record))
print(ROOT / "docs/images/phantom.svg")
