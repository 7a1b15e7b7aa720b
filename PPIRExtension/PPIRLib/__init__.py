"""The parts of the PPIR module that are no module themselves."""
