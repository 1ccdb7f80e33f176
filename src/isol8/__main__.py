"""`python -m isol8` is the command `isol8`."""

import sys

from isol8.cli.main import main

sys.exit(main())
