"""`python -m agents.experiments.studies NAME`, as pages say who were made before there was `classyq study NAME`."""

import typer

from agents.cli_study import study

if __name__ == "__main__":
    typer.run(study)
