"""Where the browser is that tests of pages drive."""

from __future__ import annotations

import os
import shutil

import pytest

CHROMIUM = os.environ.get("BIRDER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it, or name it in BIRDER_CHROMIUM")
