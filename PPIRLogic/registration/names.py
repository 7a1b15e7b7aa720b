"""The names that a person or a request may give, where they are lists of their own."""

from PPIRLogic.errors import PolicyError

FACTORS = (16, 8, 4, 2, 1)  # shrink factors: other grids would each be new measurements with a budget of their own
SAMPLINGS = ("full", "urs", "gms")
MASK_USES = ("fill", "rows")  # of the moving mask
FIXED_MASK_USES = ("none", "fill", "private", "disclosed")
POINT_TRANSFORMS = ("rigid", "similarity")  # of point sets
INITIALS = ("compare", "identity", "centres")
BINS = (8, 16, 32, 64)  # of the joint histogram
STARTS, CHECK, DETAIL = "starts", "check", "detail"  # what the levels beside those of the search are for
PURPOSES = {STARTS: "to compare starts", CHECK: "to check the end", DETAIL: "to check the end in its detail"}
RECONNECT = 120.0  # seconds that party 1 tries to reach a lost peer again


def factors_problem(factors: tuple[int, ...]) -> str:
    """What is wrong with these shrink factors; empty if they are powers of two up to 16, coarse to fine, each once.

    Other grids are not offered: each would be a new set of measurements of the same image with its own budget.
    """
    if factors and all(f in FACTORS for f in factors) and list(factors) == sorted(set(factors), reverse=True):
        return ""
    given = ",".join(map(str, factors))
    return f"Levels {given}: give shrink factors out of 16, 8, 4, 2, 1, coarse to fine, each once."


def check_factors(factors: tuple[int, ...]) -> None:
    """PolicyError for a request with other factors."""
    if problem := factors_problem(factors):
        raise PolicyError(problem)
