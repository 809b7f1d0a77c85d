"""Print the reference of all settings: `python -m knowcirc.configuration > config/README.md`."""

import sys

from knowcirc.configuration.reference import reference

sys.stdout.write(reference())
