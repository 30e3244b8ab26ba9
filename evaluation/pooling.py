"""Whether labels given beside the classifier's label may count together with those given blind.

Only where the randomised comparison of both arms (`evaluation.anchoring`) shows that its effect is negligible: the
interval lies inside a margin that was declared beforehand. Otherwise labels of the hidden arm alone count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from evaluation.anchoring import DEFAULT_MARGIN, anchoring_effect, has_arms
from evaluation.intervals import DEFAULT_CONFIDENCE, Estimate


@dataclass(frozen=True, slots=True)
class Pooling:
    """Whether labels of both arms may count: only when the effect's interval lies inside +- `margin`.

    Attributes
    ----------
    asked
        Both arms were asked for.
    allowed
        The interval lies inside the margin, which was declared beforehand.
    effect
        The effect on these annotators; `None` where nobody was shown a label at random.
    """

    asked: bool
    allowed: bool
    margin: float
    effect: Estimate | None

    @property
    def pooled(self) -> bool:
        """Say whether labels of both arms count."""
        return self.asked and (self.allowed or self.effect is None)

    def sentence(self, confidence: float = DEFAULT_CONFIDENCE) -> str:
        """Say what was asked for, what was found and what counts; empty where there is nothing to decide."""
        if not self.asked or self.effect is None:
            return ""
        inside = f"+-{self.margin:g}"
        if self.effect.interval is None:
            found = f"the effect of the shown label has no interval, so it cannot be said to lie inside {inside}"
        else:
            low, high = self.effect.interval
            verb = "lies" if self.allowed else "does not lie"
            found = (
                f"the {100 * confidence:g} % interval of the effect of the shown label, [{low:.3f}, {high:.3f}], "
                f"{verb} inside {inside}"
            )
        end = "labels of both arms count" if self.allowed else "labels of the hidden arm alone count"
        return f"Pooling of both arms was asked for: {found}; {end}."

    def to_json(self) -> dict[str, Any]:
        """Give a plain mapping."""
        return {
            "asked": self.asked,
            "allowed": self.allowed,
            "pooled": self.pooled,
            "margin": self.margin,
            "effect": None if self.effect is None else self.effect.to_json(),
        }


def pooling(
    judgments: pd.DataFrame,
    arms: str,
    margin: float = DEFAULT_MARGIN,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
) -> Pooling:
    """Decide whether the labels of both arms count: asked for by `arms="all"`, and allowed by the effect's interval.

    The decision needs no resampling, so that whoever has the table comes to the same one.
    """
    asked = arms == "all"
    if not has_arms(judgments):
        return Pooling(asked, False, margin, None)
    found = anchoring_effect(judgments, replicates=0, confidence=confidence, quick=True)
    return Pooling(asked, found.pooling_allowed(margin), margin, found.effect)
