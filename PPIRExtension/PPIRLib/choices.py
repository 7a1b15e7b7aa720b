"""What a person can choose. A transform or loss that is new in the engine is one word here, and a preset if it has one.

These are the engine's names, in the order that the panel shows them; a test compares them with the engine's own.
"""

from __future__ import annotations

LINEAR = "vtkMRMLLinearTransformNode"
BSPLINE = "vtkMRMLBSplineTransformNode"
GRID = "vtkMRMLGridTransformNode"
ANY = "vtkMRMLTransformNode"  # holds every kind

TRANSFORMS = {  # with the class of node that holds the result
    "translation": LINEAR,
    "rigid": LINEAR,
    "similarity": LINEAR,
    "affine": LINEAR,
    "bspline": ANY,  # a composite: an affine transform after a B-spline
    "diffeo": ANY,  # … after a displacement field
}
OF_POINTS = ("rigid", "similarity")
DEFORMABLE = ("bspline", "diffeo")
LOSSES = ("ncc", "ssd", "lncc", "cc", "mi")
PROTOCOLS = ("fhe", "fhe_verified", "mpc")  # clear protects nothing and is not offered
SAMPLINGS = ("full", "urs", "gms")
FIXED_MASKS = ("none", "fill", "private", "disclosed")
BINS = ("auto", "8", "16", "32", "64")
RESULTS = {LINEAR: "linear", BSPLINE: "B-spline", GRID: "displacement field"}
