"""`python -m PPIRLogic` is the command `ppir`."""

from PPIRLogic.cli import main

if __name__ == "__main__":
    main()
