"""Types of the template's parameters."""

from enum import Enum


class Method(Enum):
    """How the template pretends to work."""

    FAST = "fast"
    GOOD = "good"

    def label(self) -> str:
        return {"fast": "Fast", "good": "Good (slow)"}[self.value]
