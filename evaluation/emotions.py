"""The emotion labels, and every named mapping between label sets.

Seven labels are verified, counted and compared everywhere in the project: Ekman's six basic emotions
(Ekman 1992, *An Argument for Basic Emotions*) and neutral. A classifier may see finer: GoEmotions (Demszky et al.,
ACL 2020) has 28 labels, EmpatheticDialogues (Rashkin et al., ACL 2019) 32. How the finer labels fold into the seven is
a choice that moves every figure, so each choice has a name and a version here, and results quote its identifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Emotion = Literal["joy", "sadness", "anger", "fear", "surprise", "disgust", "neutral"]
"""One of the seven labels."""

EMOTIONS: Final[tuple[Emotion, ...]] = ("joy", "sadness", "anger", "fear", "surprise", "disgust", "neutral")
"""The seven labels in display order: keys 1 to 7, columns of every table and array."""

DESCRIPTIONS: Final[Mapping[Emotion, str]] = MappingProxyType(
    {
        "joy": "Pleasure, enthusiasm, gratitude, affection, amusement, relief, praise.",
        "sadness": "Grief, disappointment, regret, loneliness, embarrassment.",
        "anger": "Irritation, rage, disapproval voiced as displeasure.",
        "fear": "Worry, nervousness, dread felt by the speaker (a scary film alone is not fear).",
        "surprise": "Astonishment or a marked turn (a plain question is not surprise).",
        "disgust": "Revulsion, strong aversion.",
        "neutral": "No emotion expressed: plain questions, facts, requests, acknowledgements.",
    }
)
"""One line per emotion, for key caps, legends and the codebook."""

PALETTE: Final[Mapping[Emotion, str]] = MappingProxyType(
    {
        "joy": "#bd8833",
        "sadness": "#6d88c8",
        "anger": "#de205b",
        "fear": "#8c56ef",
        "surprise": "#a44c00",
        "disgust": "#177b58",
        "neutral": "#949494",
    }
)
"""One colour per emotion, the same in every page and figure.

Each has a contrast of at least 3:1 (WCAG 2 non-text) against white and against #14161a, so one palette serves light
and dark. Under simulated protanopia, deuteranopia and tritanopia (Machado et al. 2009) any two stay at least 0.08
apart in OKLab. Colour is never the only sign.
"""

GO_EMOTIONS: Final[tuple[str, ...]] = (
    "admiration",
    "amusement",
    "anger",
    "annoyance",
    "approval",
    "caring",
    "confusion",
    "curiosity",
    "desire",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "excitement",
    "fear",
    "gratitude",
    "grief",
    "joy",
    "love",
    "nervousness",
    "optimism",
    "pride",
    "realization",
    "relief",
    "remorse",
    "sadness",
    "surprise",
    "neutral",
)
"""The 28 labels of GoEmotions in the order of their official ids."""


@dataclass(frozen=True)
class Grouping:
    """A named, versioned way to fold the 28 GoEmotions labels into the seven emotions.

    `emotion_of` maps every one of the 28 labels; an incomplete or unknown label is refused with a `ValueError`.
    """

    name: str
    version: int
    title: str
    emotion_of: Mapping[str, Emotion]

    def __post_init__(self) -> None:
        check_mapping(self.emotion_of, GO_EMOTIONS, EMOTIONS)

    @property
    def identifier(self) -> str:
        """Name and version, as quoted with every result: `dialogue/1`."""
        return f"{self.name}/{self.version}"

    @property
    def matrix(self) -> NDArray[np.float64]:
        """0/1 matrix of shape (28, 7): rows in the order of `GO_EMOTIONS`, columns in that of `EMOTIONS`."""
        return mapping_matrix(self.emotion_of, GO_EMOTIONS, EMOTIONS)

    def members(self, emotion: Emotion) -> tuple[str, ...]:
        """Give the fine labels that count as `emotion`, in the order of `GO_EMOTIONS`."""
        return tuple(label for label in GO_EMOTIONS if self.emotion_of[label] == emotion)


def check_mapping(mapping: Mapping[str, str], sources: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse a mapping that is not from all of `sources` into `targets`.

    Raises
    ------
    ValueError
        Naming the source labels without a target, the keys that are no source label, and the unknown targets.
    """
    faults = []
    if missing := [label for label in sources if label not in mapping]:
        faults.append(f"no target is given for: {', '.join(missing)}")
    if unknown := [label for label in mapping if label not in set(sources)]:
        faults.append(f"these are not among the labels to be mapped: {', '.join(unknown)}")
    if wrong := [f"{label} -> {target}" for label, target in mapping.items() if target not in set(targets)]:
        faults.append(f"these targets do not exist: {', '.join(wrong)} (known: {', '.join(targets)})")
    if faults:
        raise ValueError("The label mapping cannot be used: " + "; ".join(faults) + ".")


def mapping_matrix(mapping: Mapping[str, str], sources: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
    """Give `mapping` as a 0/1 matrix of shape (len(sources), len(targets)); refuse it as `check_mapping` does."""
    check_mapping(mapping, sources, targets)
    matrix = np.zeros((len(sources), len(targets)))
    column = {target: index for index, target in enumerate(targets)}
    for row, label in enumerate(sources):
        matrix[row, column[mapping[label]]] = 1.0
    return matrix


# The official file `goemotions/data/ekman_mapping.json` of google-research/google-research.
_EKMAN: Final[dict[str, Emotion]] = {
    "admiration": "joy",
    "amusement": "joy",
    "anger": "anger",
    "annoyance": "anger",
    "approval": "joy",
    "caring": "joy",
    "confusion": "surprise",
    "curiosity": "surprise",
    "desire": "joy",
    "disappointment": "sadness",
    "disapproval": "anger",
    "disgust": "disgust",
    "embarrassment": "sadness",
    "excitement": "joy",
    "fear": "fear",
    "gratitude": "joy",
    "grief": "sadness",
    "joy": "joy",
    "love": "joy",
    "nervousness": "fear",
    "optimism": "joy",
    "pride": "joy",
    "realization": "surprise",
    "relief": "joy",
    "remorse": "sadness",
    "sadness": "sadness",
    "surprise": "surprise",
    "neutral": "neutral",
}

# In dialogue about recommendations a plain question (curiosity, confusion) astonishes nobody, and "yes" or "I see"
# (approval, realization) is an acknowledgement; the official file calls them surprise and joy.
_DIALOGUE: Final[dict[str, Emotion]] = _EKMAN | {
    "curiosity": "neutral",
    "confusion": "neutral",
    "approval": "neutral",
    "realization": "neutral",
}

GROUPINGS: Final[Mapping[str, Grouping]] = MappingProxyType(
    {
        "ekman": Grouping("ekman", 1, "Ekman, the official GoEmotions file", MappingProxyType(_EKMAN)),
        "dialogue": Grouping(
            "dialogue",
            1,
            "Dialogue: curiosity, confusion, approval and realization count as neutral",
            MappingProxyType(_DIALOGUE),
        ),
    }
)
"""The groupings 28 -> 7 by name."""

DEFAULT_GROUPING: Final = "dialogue"


def grouping_named(grouping: str | Grouping) -> Grouping:
    """Give the grouping of that name (or the grouping itself); an unknown name is a `ValueError` listing the known."""
    if isinstance(grouping, Grouping):
        return grouping
    if grouping not in GROUPINGS:
        raise ValueError(f"There is no grouping called {grouping!r}; the groupings are: {', '.join(GROUPINGS)}.")
    return GROUPINGS[grouping]


def group(probabilities: NDArray[Any], grouping: str | Grouping = DEFAULT_GROUPING) -> NDArray[Any]:
    """Sum the 28 GoEmotions probabilities into the seven emotions.

    Parameters
    ----------
    probabilities
        Shape (..., 28), columns in the order of `GO_EMOTIONS`.
    grouping
        A grouping, or the name of one in `GROUPINGS`.

    Returns
    -------
    ndarray
        Shape (..., 7), columns in the order of `EMOTIONS`; float32 for float16 and float32 input, else float64.

    Raises
    ------
    ValueError
        When the last axis is not 28 long, or no grouping has that name.
    """
    values = np.asarray(probabilities)
    if values.ndim == 0 or values.shape[-1] != len(GO_EMOTIONS):
        raise ValueError(
            f"Grouping needs {len(GO_EMOTIONS)} columns in the order of GO_EMOTIONS, got shape {values.shape}."
        )
    matrix = grouping_named(grouping).matrix
    dtype = np.float32 if values.dtype in (np.float16, np.float32) else np.float64
    return np.asarray(values.astype(dtype) @ matrix.astype(dtype))


EMPATHETIC_TO_GO: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        "afraid": "fear",
        "angry": "anger",
        "annoyed": "annoyance",
        "anticipating": "excitement",
        "anxious": "nervousness",
        "apprehensive": "nervousness",
        "ashamed": "embarrassment",
        "caring": "caring",
        "confident": "optimism",
        "content": "joy",
        "devastated": "grief",
        "disappointed": "disappointment",
        "disgusted": "disgust",
        "embarrassed": "embarrassment",
        "excited": "excitement",
        "faithful": "love",
        "furious": "anger",
        "grateful": "gratitude",
        "guilty": "remorse",
        "hopeful": "optimism",
        "impressed": "admiration",
        "jealous": "annoyance",
        "joyful": "joy",
        "lonely": "sadness",
        "nostalgic": None,
        "prepared": None,
        "proud": "pride",
        "sad": "sadness",
        "sentimental": None,
        "surprised": "surprise",
        "terrified": "fear",
        "trusting": None,
    }
)
"""The 32 EmpatheticDialogues labels as GoEmotions labels; `None` where none of them fits and the row is dropped."""

Valence = Literal["positive", "negative", "neutral", "surprise"]
"""A coarse group; `surprise` exists only where surprise forms a group of its own."""

SurprisePlace = Literal["positive", "negative", "neutral", "own", "excluded"]

SURPRISE_PLACES: Final[tuple[SurprisePlace, ...]] = ("positive", "negative", "neutral", "own", "excluded")
"""Where the coarse match may put surprise: in a group, in a group of its own, or out of the comparison."""

DEFAULT_SURPRISE_PLACE: Final[SurprisePlace] = "positive"


def valence_groups(surprise: SurprisePlace = DEFAULT_SURPRISE_PLACE) -> dict[Emotion, Valence | None]:
    """Map each emotion to its valence, with the place of surprise as named.

    The sources disagree about surprise (GoEmotions' own sentiment file calls it ambiguous), so reports print the
    range over `SURPRISE_PLACES`. With `excluded` surprise maps to `None`: such turns leave the comparison.

    Raises
    ------
    ValueError
        When `surprise` is not one of `SURPRISE_PLACES`.
    """
    places: dict[str, Valence | None] = {
        "positive": "positive",
        "negative": "negative",
        "neutral": "neutral",
        "own": "surprise",
        "excluded": None,
    }
    if surprise not in places:
        raise ValueError(f"Surprise cannot be placed {surprise!r}; the places are: {', '.join(places)}.")
    return {
        "joy": "positive",
        "sadness": "negative",
        "anger": "negative",
        "fear": "negative",
        "surprise": places[surprise],
        "disgust": "negative",
        "neutral": "neutral",
    }


VALENCE: Final[Mapping[Emotion, Valence | None]] = MappingProxyType(valence_groups())
"""The valence of each emotion with surprise at its default place."""
