"""python -m agents is the same as the command classyq."""

from agents.cli import main

main()
