"""The linear kinds: translation, rigid, similarity, affine."""

from __future__ import annotations

from PPIRLogic.registration.losses import Loss
from PPIRLogic.registration.transform_kinds.base import LevelRun, TransformKind
from PPIRLogic.transforms.linear import FORMS, LinearForm, add_form, parameter_count


class LinearKind(TransformKind):
    """A linear transform whose matrix is of one form. A new form makes a new kind: `LinearKind(MyForm())`."""

    def __init__(self, form: LinearForm, words: str = "") -> None:
        add_form(form)
        self.name = self.linear = form.name
        self.words = words

    def parameters(self, dimension: int) -> int:
        return parameter_count(self.name, dimension)

    def level_run(self, loss: Loss) -> LevelRun:
        from PPIRLogic.registration.party1.level_runs.linear import LinearRun
        from PPIRLogic.registration.party1.level_runs.linear_mi import LinearMutualInformationRun

        return LinearMutualInformationRun if loss.pooled else LinearRun


TRANSLATION = LinearKind(FORMS["translation"], "shifts")
RIGID = LinearKind(FORMS["rigid"], "shifts and turns")
SIMILARITY = LinearKind(FORMS["similarity"], "shifts, turns and one scale")
AFFINE = LinearKind(FORMS["affine"], "shifts, turns, scales and shears")
