"""Positive controls: conditions in which an ingredient of BiCo has to matter, if the benchmark can show it at all."""

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
    """A row that learns sources with clutter and without."""

    row: Name = Field(description="Row without absorption tokens, an entry of `methods`.")


class Controls(Section):
    """The rows that each control compares; null = no such control."""

    diversification: Pair | None = Field(
        default=None,
        description=(
            "Two rows that bind words, trained on one caption (`lacks`) and on many (`has`). For each, the reduction "
            "of the loss under a source's first caption, relative to the frozen backbone, is compared with that under "
            "new sentences. It needs Toybox sources, for which new sentences can be written."
        ),
    )
    absorption: WithoutToken | None = Field(
        default=None,
        description=(
            "Row whose clips are searched for clutter of their source. Each source is trained with clutter and "
            "without. It needs Toybox sources, which can be rendered both ways, and models.probe."
        ),
    )
    temporal_decoupling: Pair | None = Field(
        default=None,
        description=(
            "Two rows whose videos train on clips alone (`lacks`) and on single frames first (`has`), compared on "
            "cases that mix images and videos."
        ),
    )
    reverse_training: Pair | None = Field(
        default=None,
        description="Two rows whose stage global trains at low noise only (`lacks`) and at high noise only (`has`).",
    )
    hierarchy: Pair | None = Field(
        default=None, description="Two rows without per-block binders (`lacks`) and with them (`has`)."
    )

    def rows(self) -> dict[str, list[str]]:
        """Ingredient -> the rows that its control compares, for the controls that there are."""
        return {name: list(control.model_dump().values()) for name, control in self if control is not None}
