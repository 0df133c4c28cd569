"""`python -m tidings.cli`: the same as the command `tidings`."""

from tidings.cli.main import main

main()
