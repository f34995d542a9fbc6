"""The published package's settings that inference needs: folders of a project, and constants.

The folders can be set by environment variables of their names, as there.
"""

from __future__ import annotations

import os
from pathlib import Path

BASE_DIR = Path()
DATA_DIR = Path(os.environ.get("DATA_DIR", BASE_DIR / "data"))
MODELS_DIR = Path(os.environ.get("MODELS_DIR", BASE_DIR / "models"))
RESULTS_DIR = Path(os.environ.get("RESULTS_DIR", BASE_DIR / "results"))

DEFAULT_NUM_CHANNELS = 3
CLASS_LIST_NAME = "classes.txt"
NO_LABEL = -1
TOP_K = 3
