"""`python -m syncstore`: the command, where its script is not on the PATH."""

import sys

from syncstore.cli import main

sys.exit(main())
