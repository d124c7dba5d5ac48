"""``python -m engine``: the ``headrace`` command."""

from __future__ import annotations

import sys

from engine.cli import main

sys.exit(main())
