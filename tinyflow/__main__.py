"""python -m tinyflow: the command line."""

from tinyflow.tools.cli import main

raise SystemExit(main())
