"""`python -m worker` is `trade-sync`."""

from worker.cli import main

main()
