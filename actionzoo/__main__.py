"""`python -m actionzoo` is the `actionzoo` command."""

import sys

from .cli import main

sys.exit(main())
