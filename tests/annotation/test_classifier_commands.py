"""The two commands of the classifier. The verified labels here are made by this test's rule, none by a person."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from annotation.inference import verified
from annotation.inference.training import Recipe
from annotation.models import Adjudication, Campaign, Classifier, Item, Prediction, Response, Utterance
from annotation.workflow import learning
from annotation.workflow.opening import open_campaign
from annotation.workflow.predictions import fold_of_dialogues
from tests.annotation.inference.tiny import make_adapter, make_base
from tests.factories import UserFactory, make_campaign, make_corpus

QUICK = Recipe(epochs=1, batch_rows=16, adapter_rate=1e-3, head_rate=1e-3, grouped_loss=1.0)


def test_a_labelled_table_is_measured(db: None, tmp_path: Path) -> None:
    table = tmp_path / "labelled.csv"
    table.write_text("text,label\nI love it so much!,joy\nI am terrified,fear\nWhere is it?,neutral\nhm,bliss\n")
    out, err = StringIO(), StringIO()
    call_command("evaluate_classifier", str(table), "--grouping", "dialogue", "--json", stdout=out, stderr=err)
    found = json.loads(out.getvalue())
    assert found["n"] == 3
    assert found["accuracy"]["value"] == 1.0
    assert found["left_out"] == ["row 5: 'bliss' is no known label"]


def test_a_table_without_the_column_is_refused(db: None, tmp_path: Path) -> None:
    table = tmp_path / "labelled.csv"
    table.write_text("words,label\nx,joy\n")
    with pytest.raises(CommandError, match="no column text"):
        call_command("evaluate_classifier", str(table))


def test_measuring_a_table_of_several_labels_leaves_the_database_alone(db: None, tmp_path: Path) -> None:
    table = tmp_path / "published.tsv"
    table.write_text(
        "I love it so much!\thappy\na\nI am sad and terrified\tsadness,fear\tb\nWhere is it?\tneutral\tc\n"
    )
    figure, out, err = tmp_path / "figures" / "reliability.svg", StringIO(), StringIO()
    columns = ["--text-column", "1", "--label-column", "2", "--map", "happy=joy", "--figure", str(figure)]
    call_command("evaluate_classifier", str(table), *columns, stdout=out, stderr=err)
    assert "rows 2, grouping ekman/1" in out.getvalue()
    assert "1 rows with several emotions are not in the above; all 3 rows together" in out.getvalue()
    assert str(figure) in out.getvalue()
    assert figure.read_text().startswith("<?xml")
    assert "row 2: no label" in err.getvalue()
    assert not Classifier.objects.exists()
    with pytest.raises(CommandError, match="--map takes LABEL=EMOTION"):
        call_command("evaluate_classifier", str(table), "--map", "happy")


def test_training_says_what_it_needs(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--goemotions FOLDER or --verified"):
        call_command("train_classifier", "--output", str(tmp_path))
    with pytest.raises(CommandError, match=r"train\.tsv"):
        call_command("train_classifier", "--output", str(tmp_path), "--goemotions", str(tmp_path))
    with pytest.raises(CommandError, match="no campaign 'nobody'"):
        call_command("train_classifier", "--output", str(tmp_path), "--verified", "nobody")


@pytest.fixture
def labelled(db: None) -> Campaign:
    """An open campaign, each of its items decided by a rule of this test."""
    campaign = make_campaign(corpus=make_corpus(12), design={"kind": "simple", "size": 24})
    open_campaign(campaign)
    adjudicator = UserFactory.create(username="rule")
    for item in Item.objects.filter(campaign=campaign, kind__in=["user", "response"]):
        text = item.response.text if item.response else item.sampled_turn.turn.user_utterance.text
        label = "sadness" if "sad" in text.content else "joy" if "great" in text.content else "neutral"
        Adjudication.objects.create(item=item, adjudicator=adjudicator, label=label)
    return campaign


def test_a_campaign_teaches_fold_by_fold_and_switches_nothing(
    labelled: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base(tmp_path / "base")
    make_adapter().save(tmp_path / "default" / "adapter.safetensors")
    monkeypatch.setattr(learning, "find_base", lambda *_, **__: base)
    monkeypatch.setattr(learning, "DEFAULT_FOLDER", tmp_path / "default")
    monkeypatch.setattr(
        verified.finetune_on_verified,
        "__kwdefaults__",
        {**(verified.finetune_on_verified.__kwdefaults__ or {}), "recipe": QUICK},
    )
    before = list(Classifier.objects.values_list("pk", flat=True))
    out = StringIO()
    call_command(
        "train_classifier", "--output", str(tmp_path / "out"), "--verified", labelled.name, "--folds", "3", stdout=out
    )
    said = out.getvalue()
    assert "held-out agreement before" in said
    assert "Nothing was switched" in said
    assert list(Classifier.objects.values_list("pk", flat=True)) == before
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"adapter.safetensors", "fold-0", "fold-1", "fold-2"}


def test_stored_predictions_never_come_from_a_classifier_that_saw_the_dialogue(
    labelled: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        verified.finetune_on_verified,
        "__kwdefaults__",
        {**(verified.finetune_on_verified.__kwdefaults__ or {}), "recipe": QUICK},
    )
    call_command(
        "train_classifier",
        "--output",
        str(tmp_path),
        "--verified",
        labelled.name,
        "--folds",
        "2",
        "--store",
        "--threads",
        "1",
        stdout=StringIO(),
    )
    row = Classifier.objects.get(name=f"attune-campaign-{labelled.pk}")
    assert not row.is_default
    folders, names = default_storage.listdir(row.source)  # where every host finds it, and backups
    assert (sorted(folders), sorted(names)) == (["fold-0", "fold-1"], ["adapter.safetensors", "card.json"])
    for utterance in Utterance.objects.all():
        fold = fold_of_dialogues(row, [utterance.dialogue_id])
        assert fold is not None
        assert Prediction.objects.filter(classifier=row, text=utterance.text, fold=int(fold[0])).exists()
    for response in Response.objects.select_related("turn"):
        fold = fold_of_dialogues(row, [response.turn.dialogue_id])
        assert fold is not None
        assert Prediction.objects.filter(classifier=row, text=response.text, fold=int(fold[0])).exists()


DEMO = [str(Path(__file__).resolve().parents[2] / "annotation" / "demo" / "redial_demo.jsonl")]


def test_a_corpus_nobody_labelled_is_described(db: None) -> None:
    out = StringIO()
    call_command("describe_domain", *DEMO, "--json", stdout=out)
    found = json.loads(out.getvalue())
    assert set(found["groups"]) == {"redial users", "redial references"}
    for facts in found["groups"].values():
        assert sum(facts["dialogue, kept"].values()) == pytest.approx(1, abs=0.001)
    assert "least_certain" not in found
    assert not Classifier.objects.exists(), "the database is left alone"


def test_the_least_certain_utterances_are_listed_by_place_and_quoted_only_when_asked(db: None) -> None:
    def described(*options: str) -> str:
        out = StringIO()
        call_command("describe_domain", *DEMO, "--uncertain", "5", *options, stdout=out)
        return out.getvalue()

    found = json.loads(described("--json", "--texts"))["least_certain"]
    assert len(found) == 5
    tops = [one["emotions"][0][1] for one in found]
    assert tops == sorted(tops)
    assert all(one["emotions"][0][1] >= one["emotions"][1][1] for one in found)
    table = described()
    for one in found:
        assert f"| redial | {one['dialogue']} | {one['turn']} | {one['role']} |" in table
        assert one["text"] not in table
    assert found[0]["text"] in described("--texts")


def test_a_file_that_is_no_corpus_is_refused_with_its_name(db: None, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CommandError, match=r"notes\.txt"):
        call_command("describe_domain", str(tmp_path / "notes.txt"))
