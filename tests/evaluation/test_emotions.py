"""The seven labels and every table that leads to them."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from evaluation.emotions import (
    DEFAULT_GROUPING,
    DESCRIPTIONS,
    EMOTIONS,
    EMPATHETIC_TO_GO,
    GO_EMOTIONS,
    GROUPINGS,
    PALETTE,
    SURPRISE_PLACES,
    VALENCE,
    Grouping,
    group,
    grouping_named,
    mapping_matrix,
    valence_groups,
)

SHARED = Path(os.environ.get("ATTUNE_SHARED", Path(__file__).resolve().parents[3] / "shared"))

# Written out a second time, from the paper's Table and the official file, so that a slip in either shows.
EKMAN_MEMBERS = {
    "anger": "anger annoyance disapproval",
    "disgust": "disgust",
    "fear": "fear nervousness",
    "joy": "joy amusement approval excitement gratitude love optimism relief pride admiration desire caring",
    "sadness": "sadness disappointment embarrassment grief remorse",
    "surprise": "surprise realization confusion curiosity",
    "neutral": "neutral",
}

EMPATHETIC_BY_EMOTION = {
    "joy": "joyful content excited anticipating proud grateful hopeful confident caring impressed faithful",
    "sadness": "sad lonely disappointed devastated guilty ashamed embarrassed",
    "anger": "angry furious annoyed jealous",
    "fear": "afraid terrified anxious apprehensive",
    "surprise": "surprised",
    "disgust": "disgusted",
    None: "nostalgic sentimental prepared trusting",
}


def test_the_seven_labels_stand_in_display_order() -> None:
    assert EMOTIONS == ("joy", "sadness", "anger", "fear", "surprise", "disgust", "neutral")
    assert set(PALETTE) == set(DESCRIPTIONS) == set(VALENCE) == set(EMOTIONS)


def test_all_28_labels_fall_where_the_official_file_puts_them() -> None:
    expected = {fine: emotion for emotion, members in EKMAN_MEMBERS.items() for fine in members.split()}
    assert len(expected) == len(GO_EMOTIONS) == len(set(GO_EMOTIONS)) == 28
    assert dict(GROUPINGS["ekman"].emotion_of) == expected


def test_the_dialogue_grouping_differs_in_exactly_four_labels() -> None:
    ekman, dialogue = GROUPINGS["ekman"].emotion_of, GROUPINGS["dialogue"].emotion_of
    moved = {label for label in GO_EMOTIONS if ekman[label] != dialogue[label]}
    assert moved == {"curiosity", "confusion", "approval", "realization"}
    assert {dialogue[label] for label in moved} == {"neutral"}
    assert DEFAULT_GROUPING == "dialogue"


def test_the_tables_agree_with_the_published_files() -> None:
    folder = SHARED / "data" / "goemotions"
    if not folder.is_dir():
        pytest.skip(f"the published data sets are not at {SHARED}; set ATTUNE_SHARED to their folder")
    assert tuple((folder / "emotions.txt").read_text().split()) == GO_EMOTIONS
    official = json.loads((folder / "ekman_mapping.json").read_text())
    for emotion, members in official.items():
        assert set(GROUPINGS["ekman"].members(emotion)) == set(members)


def test_all_32_empathetic_labels_fall_into_their_emotion_or_are_dropped() -> None:
    ekman = GROUPINGS["ekman"].emotion_of
    expected = {name: emotion for emotion, names in EMPATHETIC_BY_EMOTION.items() for name in names.split()}
    assert len(EMPATHETIC_TO_GO) == len(expected) == 32
    for name, fine in EMPATHETIC_TO_GO.items():
        assert (None if fine is None else ekman[fine]) == expected[name], name


@pytest.mark.parametrize("name", sorted(GROUPINGS))
def test_grouping_sums_the_fine_probabilities(name: str) -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(28), size=(3, 5))
    grouped = group(rows, name)
    assert grouped.shape == (3, 5, 7)
    assert np.allclose(grouped.sum(-1), 1.0)
    for column, emotion in enumerate(EMOTIONS):
        members = [index for index, fine in enumerate(GO_EMOTIONS) if GROUPINGS[name].emotion_of[fine] == emotion]
        assert np.allclose(grouped[..., column], rows[..., members].sum(-1))


def test_stored_half_precision_is_grouped_in_single_precision() -> None:
    assert group(np.full((2, 28), 1 / 28, dtype=np.float16)).dtype == np.float32


@pytest.mark.parametrize("shape", [(7,), (4, 27), (28, 4), ()])
def test_another_number_of_columns_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="28 columns"):
        group(np.zeros(shape))


def test_an_unknown_grouping_is_refused_with_the_known_named() -> None:
    with pytest.raises(ValueError, match=r"'plutchik'.*ekman, dialogue"):
        grouping_named("plutchik")


def test_an_incomplete_grouping_is_refused_with_the_missing_label_named() -> None:
    emotion_of = {label: GROUPINGS["ekman"].emotion_of[label] for label in GO_EMOTIONS if label != "remorse"}
    with pytest.raises(ValueError, match="remorse"):
        Grouping("half", 1, "Half", emotion_of)


def test_a_mapping_names_missing_unknown_and_wrong_labels_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"no target is given for: b.*not among the labels to be mapped: c.*a -> bliss"
    ):
        mapping_matrix({"a": "bliss", "c": "joy"}, ["a", "b"], EMOTIONS)


def test_surprise_takes_every_place_and_nothing_else_moves() -> None:
    places = {place: valence_groups(place) for place in SURPRISE_PLACES}
    assert [places[place]["surprise"] for place in SURPRISE_PLACES] == [
        "positive",
        "negative",
        "neutral",
        "surprise",
        None,
    ]
    for first, second in itertools.combinations(places.values(), 2):
        assert {k: v for k, v in first.items() if k != "surprise"} == {
            k: v for k, v in second.items() if k != "surprise"
        }
    with pytest.raises(ValueError, match="excluded"):
        valence_groups("elsewhere")  # type: ignore[arg-type]


def test_every_colour_is_visible_on_light_and_dark_ground() -> None:
    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark = luminance("#14161a")
    for emotion, colour in PALETTE.items():
        assert 1.05 / (luminance(colour) + 0.05) >= 3.0, emotion
        assert (luminance(colour) + 0.05) / (dark + 0.05) >= 3.0, emotion


# Machado, Oliveira & Fernandes 2009, severity 1.0.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_no_two_colours_look_alike_to_colour_blind_eyes(deficiency: str) -> None:
    to_cone = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    channels = np.array([[int(PALETTE[e][i : i + 2], 16) for i in (1, 3, 5)] for e in EMOTIONS]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    lab = np.cbrt(seen @ to_cone.T) @ to_lab.T
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(7, 1)]
    assert distance.min() >= 0.08
