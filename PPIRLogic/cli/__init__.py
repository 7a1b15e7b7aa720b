"""The command `ppir`, one file for each group of commands."""

from PPIRLogic.cli.main import main

__all__ = ["main"]
