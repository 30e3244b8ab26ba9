"""The command: statistics of a file, without a server. `python -m evaluation --help`.

Every `--json` prints one object; every statistic in it is `{"value", "n", "interval", "se", "reason", "method",
"clusters", "notes"}`. Keys, formulas and defaults: `docs/metrics.md`.
"""

from __future__ import annotations

import sys

from evaluation.command.main import main

if __name__ == "__main__":
    sys.exit(main())
