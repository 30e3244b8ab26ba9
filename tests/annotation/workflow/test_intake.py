from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from annotation import demo
from annotation.corpora import Columns, CorpusError
from annotation.models import Dataset, Dialogue, ImportRun, Response, System, Text, Turn, Utterance
from annotation.workflow import intake
from annotation.workflow.intake import import_dialogues, import_responses

ROOT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("ATTUNE_SHARED", ROOT.parent / "shared")) / "data"

pytestmark = pytest.mark.django_db


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the published data sets are not at {SHARED}; set ATTUNE_SHARED to their folder")
    return SHARED


def record(number: int, *texts: str) -> dict[str, Any]:
    """A ReDial dialogue in which seeker (10) and recommender (20) take turns, the seeker first."""
    return {
        "conversationId": str(number),
        "initiatorWorkerId": 10,
        "respondentWorkerId": 20,
        "movieMentions": {"7": "Heat (1995)"},
        "messages": [
            {"text": text, "senderWorkerId": (10, 20)[index % 2], "messageId": number * 100 + index}
            for index, text in enumerate(texts or ("hi", "hello", "any crime film?", "@7", "great, bye"))
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def put(name: str, *records: dict[str, Any] | str) -> Path:
        path = tmp_path / name
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
        return path

    return put


Write = Callable[..., Path]


def rows() -> dict[str, list[Any]]:
    """Everything an import may write, primary keys and all."""
    tables = (Dataset, Dialogue, Utterance, Turn, System, Response, Text)
    return {table.__name__: list(table.objects.order_by("pk").values()) for table in tables}


def test_a_dialogue_comes_in_with_its_turns_and_the_reference_as_a_system(write: Write) -> None:
    report = import_dialogues(write("test.jsonl", record(1)), dataset="redial")
    assert (report.rows, report.kept, report.skipped) == (5, 5, 0)
    assert report.created == {"dialogues": 1, "utterances": 5, "turns": 2, "responses": 2}
    dialogue = Dialogue.objects.get()
    assert (dialogue.dataset.title, dialogue.source_id, dialogue.split) == ("ReDial", "1", "test")
    turns = Turn.objects.order_by("position")
    # the last words of the user were not answered, so they are an utterance without a turn
    assert [(t.user_utterance.shown, t.position) for t in turns] == [("hi", 1), ("any crime film?", 3)]
    answers = Response.objects.order_by("turn__position")
    assert [(r.system.is_reference, r.shown, r.raw) for r in answers] == [
        (True, "hello", "hello"),
        (True, "Heat (1995)", "@7"),
    ]
    assert Utterance.objects.get(position=3).items == ["Heat (1995)"]
    assert Utterance.objects.get(position=3).source_ids == ["103"]


def test_one_text_is_stored_once_wherever_it_occurs(write: Write) -> None:
    import_dialogues(write("a.jsonl", record(1, "Hi", "hello"), record(2, "hi ", "Hello")), dataset="redial")
    assert Text.objects.count() == 2
    assert Response.objects.values("text").distinct().count() == 1


def test_the_same_file_twice_changes_nothing(write: Write) -> None:
    path = write("a.jsonl", *(record(n) for n in range(1, 40)))
    import_dialogues(path, dataset="redial")
    before = rows()
    report = import_dialogues(path, dataset="redial")
    assert rows() == before
    assert (report.kept, report.unchanged, report.conflicts) == (0, 39 * 5, 0)
    assert ImportRun.objects.count() == 2


def test_a_changed_dialogue_is_a_conflict_and_is_left_as_it_was(write: Write) -> None:
    import_dialogues(write("a.jsonl", record(1, "hi", "hello")), dataset="redial")
    before = rows()
    report = import_dialogues(write("b.jsonl", record(1, "hi", "good day"), record(2)), dataset="redial")
    assert (report.conflicts, report.kept) == (1, 5)
    assert report.problems == [
        {
            "file": "b.jsonl",
            "line": 1,
            "reason": "dialogue 1 is known in ReDial with another text; it was left as it is",
        }
    ]
    assert rows()["Utterance"][:2] == before["Utterance"]


def test_bad_rows_are_listed_and_the_rest_comes_in(write: Write) -> None:
    path = write("a.jsonl", record(1), "{broken", record(2), record(2))
    report = import_dialogues(path, dataset="redial")
    assert Dialogue.objects.count() == 2
    assert [(p["line"], p["reason"].split(" (")[0]) for p in report.problems] == [
        (2, "not valid JSON"),
        (4, "conversationId 2 was already on line 3"),
    ]
    run = ImportRun.objects.get(pk=report.run_id)
    assert run.counts["skipped"] == 2
    assert run.problems == report.problems
    assert run.finished_at is not None
    assert run.sha256 == report.sha256


def test_abort_imports_nothing_when_one_row_is_bad(write: Write) -> None:
    report = import_dialogues(write("a.jsonl", record(1), "{broken"), dataset="redial", on_bad_row="abort")
    assert report.aborted
    assert (report.kept, report.skipped) == (0, 1)
    assert not any(rows().values())
    good = import_dialogues(write("b.jsonl", record(1)), dataset="redial", on_bad_row="abort")
    assert not good.aborted
    assert Dialogue.objects.count() == 1


def test_abort_counts_a_conflict_as_bad(write: Write) -> None:
    import_dialogues(write("a.jsonl", record(1, "hi", "hello")), dataset="redial")
    report = import_dialogues(
        write("b.jsonl", record(2), record(1, "hi", "other")), dataset="redial", on_bad_row="abort"
    )
    assert report.aborted
    assert Dialogue.objects.count() == 1


def test_a_file_that_cannot_be_used_imports_nothing(write: Write, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(CorpusError, match="is empty"):
        import_dialogues(empty, dataset="redial")
    with pytest.raises(CorpusError, match="no name for a data set"):
        import_dialogues(write("a.jsonl", record(1)), dataset="my data")
    with pytest.raises(CorpusError, match="use import_responses"):
        import_dialogues(write("r.jsonl", answer(1, 1)), dataset="redial")
    assert not any(rows().values())


def test_hostile_markup_is_kept_as_text(write: Write) -> None:
    import_dialogues(write("a.jsonl", record(1, "<script>alert(1)</script>", "&lt;b&gt;")), dataset="redial")
    assert Utterance.objects.get(position=0).shown == "<script>alert(1)</script>"
    assert Utterance.objects.get(position=1).shown == "<b>"


def answer(
    dialogue: int, position: int, text: str = "Try Clue.", system: str = "My LLM 1.5", **more: Any
) -> dict[str, Any]:
    return {"dialogue_id": str(dialogue), "turn_id": position, "system": system, "response": text, **more}


@pytest.fixture
def two_dialogues(write: Write) -> None:
    import_dialogues(write("two.jsonl", record(1), record(2)), dataset="redial")


@pytest.mark.usefixtures("two_dialogues")
def test_a_response_joins_by_dialogue_and_merged_position(write: Write) -> None:
    report = import_responses(write("r.jsonl", answer(1, 1), answer(2, 3, "Try Heat.")))
    assert (report.kept, report.skipped) == (2, 0)
    system = System.objects.get(is_reference=False)
    assert (system.name, system.title) == ("my-llm-1-5", "My LLM 1.5")
    found = Response.objects.filter(system=system).order_by("pk")
    assert [(r.turn.dialogue.source_id, r.turn.position, r.turn.user_utterance.shown) for r in found] == [
        ("1", 1, "hi"),
        ("2", 3, "any crime film?"),
    ]
    assert found[0].source == {"file": "r.jsonl", "line": 1}


@pytest.mark.usefixtures("two_dialogues")
def test_an_answer_to_the_last_words_brings_their_turn(write: Write) -> None:
    report = import_responses(write("r.jsonl", answer(1, 5, system="a"), answer(1, 5, system="b")))
    assert report.created == {"responses": 2, "turns": 1}
    assert Turn.objects.get(position=5).user_utterance.shown == "great, bye"


@pytest.mark.usefixtures("two_dialogues")
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            answer(9, 1),
            "dialogue 9 is not in any data set; "
            "import the file with the dialogues (import_dialogues FILE --dataset NAME) first",
        ),
        (answer(1, 2), "turn 2 of dialogue 1 is the user's, no place for a response"),
        (answer(1, 9), "dialogue 1 has no turn 9 (it has 0 to 4)"),
        (answer(1, 1, reference_message_ids=[555]), "turn 1 of dialogue 1 holds message 101, the file says 555"),
        (answer(1, 1, system="human"), "human is the human reference, whose responses come with the dialogues"),
    ],
)
def test_a_response_that_joins_nowhere_is_reported_with_its_reason(
    write: Write, row: dict[str, Any], reason: str
) -> None:
    before = rows()
    report = import_responses(write("r.jsonl", row))
    assert (report.kept, report.skipped) == (0, 1)
    assert report.problems == [{"file": "r.jsonl", "line": 1, "reason": reason}]
    assert rows() == before


@pytest.mark.usefixtures("two_dialogues")
def test_responses_twice_change_nothing_and_changed_ones_are_conflicts(write: Write) -> None:
    path = write("r.jsonl", answer(1, 1), answer(1, 3))
    import_responses(path)
    before = rows()
    assert import_responses(path).unchanged == 2
    changed = import_responses(write("s.jsonl", answer(1, 1, "Something else."), answer(1, 3)))
    assert (changed.conflicts, changed.unchanged, changed.kept) == (1, 1, 0)
    assert rows() == before


@pytest.mark.usefixtures("two_dialogues")
def test_two_answers_of_one_system_in_one_file_keep_the_first(write: Write) -> None:
    report = import_responses(write("r.jsonl", answer(1, 1), answer(1, 1), answer(1, 1, "Another.")))
    assert (report.kept, report.unchanged, report.conflicts) == (1, 1, 1)
    assert Response.objects.get(system__is_reference=False).raw == "Try Clue."


@pytest.mark.usefixtures("two_dialogues")
def test_a_strict_response_file_with_one_unknown_dialogue_imports_nothing(write: Write) -> None:
    before = rows()
    assert import_responses(write("r.jsonl", answer(1, 1), answer(9, 1)), on_bad_row="abort").aborted
    assert rows() == before


@pytest.mark.usefixtures("two_dialogues")
def test_a_dialogue_in_two_data_sets_must_be_named(write: Write) -> None:
    import_dialogues(write("again.jsonl", record(1)), dataset="other")
    path = write("r.jsonl", answer(1, 1))
    assert "is in several data sets" in import_responses(path).problems[0]["reason"]
    assert import_responses(path, dataset="other").kept == 1
    with pytest.raises(CorpusError, match="There is no data set 'nowhere'"):
        import_responses(path, dataset="nowhere")


@pytest.mark.usefixtures("two_dialogues")
def test_names_that_differ_in_signs_only_are_two_systems_and_a_new_title_changes_nothing(write: Write) -> None:
    path = write("r.jsonl", answer(1, 1, system="GPT 4"), answer(1, 1, "Other words.", system="GPT-4"))
    assert import_responses(path).kept == 2
    System.objects.filter(title="GPT 4").update(title="The fourth")
    assert import_responses(path).unchanged == 2
    assert System.objects.filter(is_reference=False).count() == 2


def test_a_reference_text_with_placeholders_finds_its_turn(write: Write) -> None:
    import_dialogues(
        write("a.jsonl", record(1, "hello", "Seen Heat?", "yes!", "And Heat 2, then?", "no")), dataset="redial"
    )
    more = {"inspired_dialog_id": "1", "user_utterance": "yes !"}
    report = import_responses(
        write(
            "r.jsonl",
            answer(77, 0, reference_response="and [MOVIE_TITLE_0] , then ?", **more),
            answer(77, 0, system="b", reference_response="and never said", **more),
        )
    )
    assert Response.objects.get(system__is_reference=False).turn.position == 3
    assert report.problems[0]["reason"] == "the reference text occurs nowhere in dialogue 1"


def test_a_table_of_triplets_brings_dialogues_and_systems(write: Write) -> None:
    path = write("t.csv", "d,q,gold,bot", "x,hello,hi there,hey", "x,a comedy?,Clue,Airplane!")
    columns = Columns(user="q", dialogue="d", reference="gold", systems={"bot": "Bot"})
    report = import_dialogues(path, dataset="own", columns=columns, on_bad_row="abort")
    assert report.created == {"dialogues": 1, "utterances": 4, "turns": 2, "responses": 4}
    again = import_dialogues(path, dataset="own", columns=columns)
    assert (again.kept, again.unchanged) == (0, 6)
    assert list(
        Response.objects.filter(system__name="bot").order_by("turn__position").values_list("raw", flat=True)
    ) == [
        "hey",
        "Airplane!",
    ]


def test_the_transactions_stay_short(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = intake._create

    def counted(dialogues: Any, *rest: Any) -> Any:
        sizes.append(3 * sum(len(d.utterances) for d in dialogues))
        return original(dialogues, *rest)

    monkeypatch.setattr(intake, "_create", counted)
    import_dialogues(write("a.jsonl", *(record(n) for n in range(1, 301))), dataset="redial")
    assert len(sizes) > 1
    assert max(sizes) <= intake.ROWS_PER_TRANSACTION + 3 * 5


def test_a_failure_half_way_leaves_whole_dialogues_and_a_rerun_completes_them(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.jsonl", *(record(n) for n in range(1, 301)))
    original, calls = intake._save_texts, iter(range(100))

    def failing(plains: Any) -> dict[str, str]:
        if next(calls) == 2:
            raise RuntimeError("power cut")
        return original(plains)

    monkeypatch.setattr(intake, "_save_texts", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        import_dialogues(path, dataset="redial")
    half = Dialogue.objects.count()
    assert 0 < half < 300
    assert Utterance.objects.count() == 5 * half
    assert Response.objects.count() == 2 * half
    monkeypatch.undo()
    import_dialogues(path, dataset="redial")
    assert Dialogue.objects.count() == 300
    assert Utterance.objects.count() == 1500


@pytest.mark.django_db(transaction=True)
def test_a_killed_import_is_finished_by_a_second_run_with_the_same_outcome(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    path.write_text("".join(json.dumps(record(n, "hi", f"film {n}?", "yes", "bye")) + "\n" for n in range(1, 1001)))
    environment = {**os.environ, "ATTUNE_DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "config.settings"}
    environment.pop("ATTUNE_DATABASE_URL", None)
    code = (
        "import django, sys; django.setup()\n"
        "from annotation.workflow.intake import import_dialogues\n"
        f"import_dialogues({str(path)!r}, dataset='redial', pause=float(sys.argv[1]))"
    )
    database = tmp_path / "attune.sqlite3"
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        with sqlite3.connect(database) as copy:  # the empty tables of this test's own database
            connection.connection.backup(copy)
    else:
        setup = (
            "import django; django.setup(); from django.core.management import call_command; call_command('migrate')"
        )
        subprocess.run([sys.executable, "-c", setup], check=True, cwd=ROOT, env=environment)

    def count(table: str) -> int:
        with sqlite3.connect(database, timeout=20) as reader:
            return int(reader.execute(f"select count(*) from annotation_{table}").fetchone()[0])

    process = subprocess.Popen([sys.executable, "-c", code, "0.2"], cwd=ROOT, env=environment)
    deadline = time.monotonic() + 60
    while count("dialogue") < 100 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    half = count("dialogue")
    assert 100 <= half < 1000
    assert count("utterance") == 4 * half
    assert count("turn") == count("response") == 2 * half
    subprocess.run([sys.executable, "-c", code, "0"], check=True, cwd=ROOT, env=environment)
    assert (count("dialogue"), count("utterance"), count("turn"), count("response")) == (1000, 4000, 2000, 2000)


def test_the_commands_say_what_was_taken_and_what_was_not(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("test.jsonl", record(1), "{broken")
    call_command("import_dialogues", str(path), skip_checks=True)
    call_command("import_responses", str(write("r.jsonl", answer(1, 1), answer(8, 1))), skip_checks=True)
    printed = capsys.readouterr().out
    assert "test.jsonl (redial): 6 messages read" in printed
    assert "test.jsonl, line 2: not valid JSON" in printed
    assert "r.jsonl, line 2: dialogue 8 is not in any data set" in printed
    with pytest.raises(CommandError, match="nothing was imported"):
        call_command("import_dialogues", str(path), "--strict", skip_checks=True)
    with pytest.raises(CommandError, match="is empty"):
        call_command("import_dialogues", str(write("none.jsonl")), skip_checks=True)


def test_the_command_reads_a_column_mapping(write: Write) -> None:
    path = write("t.csv", "q,gold,bot", "hello,hi there,hey")
    call_command(
        "import_dialogues",
        str(path),
        "--dataset",
        "own",
        "--columns",
        "user=q",
        "reference=gold",
        "system:Bot=bot",
        skip_checks=True,
    )
    assert Response.objects.get(system__name="bot").raw == "hey"
    with pytest.raises(CommandError, match="no part 'rating'; there are user, dialogue"):
        call_command("import_dialogues", str(path), "--columns", "user=q", "rating=x", skip_checks=True)


def test_the_demo_corpus_comes_in_without_a_word_of_complaint() -> None:
    paths = demo.paths()
    for dataset, path in (("demo-redial", paths.redial), ("demo-inspired", paths.inspired)):
        report = import_dialogues(path, dataset=dataset, split="demo", on_bad_row="abort")
        assert not report.problems
        assert not report.notes
    assert Dialogue.objects.count() == 44
    sizes = [dialogue.meta["messages"] for dialogue in Dialogue.objects.all()]
    assert min(sizes) >= 6
    assert max(sizes) <= 12
    for path in paths.responses:
        report = import_responses(path, on_bad_row="abort")
        assert not report.problems
        # three systems answer every turn that the reference answers
        assert report.kept == Turn.objects.count() == Response.objects.filter(system__is_reference=True).count()


PUBLISHED = {
    # group: (rows, kept, known already, reported); what is reported has no user utterance before it or no such text
    "redial_*": (38_868, 38_867, 0, 1),
    "inspired_*_he2023*": (760, 756, 0, 4),
    "inspired_*_llmkb*": (1_710, 1_701, 0, 9),
    "inspired_*_manzoor2022*": (1_328, 1_312, 0, 16),
    "redial70_*": (2_104, 1_959, 0, 145),
    "crsarena_*": (1_458, 0, 1_452, 6),
}


@pytest.mark.slow
def test_every_published_response_group_joins_as_its_readme_says(shared: Path) -> None:
    published_join(shared, PUBLISHED)


def test_the_small_published_groups_join_as_their_readme_says(shared: Path) -> None:
    small = {
        name: PUBLISHED[name] for name in ("inspired_*_he2023*", "inspired_*_manzoor2022*", "redial70_*", "crsarena_*")
    }
    published_join(shared, small)


def published_join(shared: Path, groups: dict[str, tuple[int, int, int, int]]) -> None:
    needed = [
        ("inspired", "inspired/test.tsv"),
        ("redial70", "llm_responses/redial70_dialogues.jsonl"),
        ("crsarena", "llm_responses/crsarena_dialogues.jsonl.gz"),
    ]
    if "redial_*" in groups:
        needed += [("redial", "redial/test.jsonl.gz"), ("redial", "redial/train_partial.jsonl.gz")]
    for dataset, name in needed:
        assert not import_dialogues(shared / name, dataset=dataset).problems
    for pattern, expected in groups.items():
        totals = [0, 0, 0, 0]
        for path in sorted((shared / "llm_responses").glob(f"{pattern}.gz")):
            if "dialogues" in path.name:
                continue
            # one file, one system: the published names repeat across sources
            live = path.name.startswith("crsarena")
            report = import_responses(path, system=None if live else path.name.split(".")[0])
            assert not report.conflicts, path.name
            totals = [
                a + b for a, b in zip(totals, (report.rows, report.kept, report.unchanged, report.skipped), strict=True)
            ]
        assert tuple(totals) == expected, pattern
