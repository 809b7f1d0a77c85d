"""A study's results as a page in Markdown: `python -m knowcirc.report results/reference > RESULTS.md`."""

import sys
from pathlib import Path

from knowcirc.report.markdown import results_page

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.stdout.write(results_page(folder, Path("rules/captions")))
