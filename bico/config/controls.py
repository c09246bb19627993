"""Positive controls: conditions in which an ingredient of BiCo must have an effect, if the benchmark can measure it."""

from typing import Literal

from pydantic import Field, model_validator

from bico.config.section import Name, Section, problem

Ingredient = Literal["diversification", "absorption", "temporal_decoupling", "reverse_training", "hierarchy"]


class Pair(Section):
    """Two rows that differ in one ingredient."""

    lacks: Name = Field(description="Row that lacks the ingredient, an entry of `methods`.")
    has: Name = Field(description="Row that has it.")

    @model_validator(mode="after")
    def _differ(self) -> "Pair":
        if self.lacks == self.has:
            raise problem("'lacks' and 'has' are both '{row}': expected two rows", row=self.has)
        return self


class WithoutToken(Section):
    """A row that learns each source twice: with clutter and without."""

    row: Name = Field(description="Row without absorption tokens, an entry of `methods`.")


class Controls(Section):
    """The rows that each control compares; null = no such control."""

    diversification: Pair | None = Field(
        default=None,
        description=(
            "Rows that bind words, trained on one caption (`lacks`) and on many (`has`). The control measures how much "
            "each lowers the loss of the frozen backbone, for the first caption of a source and for new sentences. It "
            "needs Toybox sources, for which new sentences can be written."
        ),
    )
    absorption: WithoutToken | None = Field(
        default=None,
        description=(
            "Row whose clips the probe searches for clutter of their source. Each source is trained with clutter and "
            "without. It needs Toybox sources, which can be rendered both ways, and models.probe."
        ),
    )
    temporal_decoupling: Pair | None = Field(
        default=None,
        description="Rows whose videos train on clips only (`lacks`) and on single frames first (`has`). They are "
        "compared on cases that mix images and videos.",
    )
    reverse_training: Pair | None = Field(
        default=None,
        description="Rows whose stage global trains at low noise only (`lacks`) and at high noise only (`has`).",
    )
    hierarchy: Pair | None = Field(
        default=None, description="Rows without binders of each block (`lacks`), and with them (`has`)."
    )

    def rows(self) -> dict[str, list[str]]:
        """Ingredient -> the rows that its control compares, for the controls that there are."""
        return {name: list(control.model_dump().values()) for name, control in self if control is not None}
