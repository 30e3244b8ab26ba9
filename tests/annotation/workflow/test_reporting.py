"""The full report, from database to bundle. Every label here is made by the program in `report_corpus`.

The golden numbers are worked out in this file from the lists of that corpus, by counting or with scikit-learn: nothing
of the product computes what it is compared with.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import transaction
from sklearn.metrics import f1_score

from annotation.models import Campaign, Job, Judgment, Prediction, ReportRun, Response, Slot, System, Utterance
from annotation.workflow import jobs, reporting
from evaluation.emotions import EMOTIONS
from evaluation.report import dumps, recompute
from tests.annotation.workflow.report_corpus import ADJUDICATED, GIVEN, LABELLED, RATED, Corpus, make_corpus

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> \\input{/etc/passwd} ../../etc/passwd "
VALENCE = {"joy": "+", "surprise": "+", "neutral": "0", "sadness": "-", "anger": "-", "fear": "-", "disgust": "-"}
SYSTEMS = ("reference", "alpha", "beta")

Pair = tuple[str, str]


@dataclass
class Built:
    run: ReportRun
    folder: Path
    report: dict[str, Any]
    unverified: dict[str, Any]
    unverified_run: ReportRun
    archive: bytes


@pytest.fixture(scope="module")
def built(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """One report with labels, every form of it; and one without labels, without figures and PDF."""
    folder = tmp_path_factory.mktemp("bundle") / "report"
    with django_db_blocker.unblock(), transaction.atomic():
        world = make_corpus(words=HOSTILE)
        for response in Response.objects.all():
            response.shown = HOSTILE + response.shown
            response.save()
        for utterance in Utterance.objects.all():
            utterance.shown = HOSTILE + utterance.shown
            utterance.save()
        System.objects.filter(name="alpha").update(title=HOSTILE)
        run = reporting.build_report(campaign=world.campaign, parameters={"replicates": 60}, folder=folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("evaluation.figures.write_figures", lambda *given: {})
            plain = reporting.build_report(campaign=None, parameters={"replicates": 60, "pdf": False})
        archive = b"".join(reporting.bundle_stream(run))
        report = json.loads((folder / "report.json").read_text())
        yield Built(run, folder, report, reporting.load_report(plain), plain, archive)
        transaction.set_rollback(True)


def table(report: dict[str, Any], identifier: str) -> list[dict[str, Any]]:
    tables = {one["id"]: one["rows"] for section in report["sections"] for one in section["tables"]}
    rows: list[dict[str, Any]] = tables[identifier]
    return rows


def named(system: str) -> str:
    """What the report calls a system: its title, and alpha's is a hostile one."""
    return {"reference": "human reference", "alpha": HOSTILE.strip(), "beta": "Beta"}[system]


def titled(dataset: str) -> str:
    return dataset.title()


def classifier_pairs(dataset: str, system: str, *, against: str = "user") -> list[Pair]:
    """(user or reference label, response label) of every turn the system answered, by the classifier."""
    place = SYSTEMS.index(system)
    return [
        (row[3] if against == "user" else row[4], row[4 + place])
        for row in LABELLED
        if row[0] == dataset and row[4 + place]
    ]


def decided(dialogue: str, turn: int, who: str) -> str | None:
    """The verified label by the rule: adjudicated, else two equal labels."""
    labels = GIVEN[dialogue, turn][("user", *SYSTEMS).index(who)]
    if (dialogue, turn, who) in ADJUDICATED:
        return ADJUDICATED[dialogue, turn, who]
    return labels[0] if labels[0] == labels[1] else None


def human_pairs(dataset: str, system: str) -> list[Pair]:
    home = {row[1]: row[0] for row in LABELLED}
    found = []
    for dialogue, turn in GIVEN:
        user, response = decided(dialogue, turn, "user"), decided(dialogue, turn, system)
        if home[dialogue] == dataset and user and response:
            found.append((user, response))
    return found


def exact(pairs: list[Pair]) -> float:
    return sum(a == b for a, b in pairs) / len(pairs)


def coarse(pairs: list[Pair]) -> float:
    return sum(VALENCE[a] == VALENCE[b] for a, b in pairs) / len(pairs)


def bits(pairs: list[Pair]) -> float:
    counts = Counter(response for _, response in pairs)
    return -sum(n / len(pairs) * math.log2(n / len(pairs)) for n in counts.values())


GROUPS = [(dataset, system) for dataset in ("inspired", "redial") for system in SYSTEMS]


# --- golden: the classifier's numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "system"), GROUPS)
def test_alignment_and_range_by_the_classifier_are_what_counting_gives(built: Built, dataset: str, system: str) -> None:
    pairs = classifier_pairs(dataset, system)
    row = next(
        r
        for r in table(built.unverified, "alignment")
        if (r["dataset"], r["system"]) == (titled(dataset), named(system))
    )
    assert row["turns"] == len(pairs)
    assert row["exact_raw"]["value"] == pytest.approx(exact(pairs))
    assert row["coarse_raw"]["value"] == pytest.approx(coarse(pairs))
    flat = next(
        r
        for r in table(built.unverified, "flatness")
        if (r["dataset"], r["system"]) == (titled(dataset), named(system))
    )
    assert flat["entropy_raw"]["value"] == pytest.approx(bits(pairs))
    assert flat["flatness_raw"]["value"] == pytest.approx(bits(pairs) / math.log2(7))
    assert flat["classes"] == len({response for _, response in pairs})


@pytest.mark.parametrize(("dataset", "system"), GROUPS)
def test_the_headline_repeats_the_numbers_of_its_sections(built: Built, dataset: str, system: str) -> None:
    pairs = classifier_pairs(dataset, system)
    rows = [
        r
        for r in table(built.unverified, "headline")
        if (r["dataset"], r["system"]) == (titled(dataset), named(system))
    ]
    found = {row["measure"]: row["value_raw"]["value"] for row in rows}
    assert found["Exact alignment"] == pytest.approx(exact(pairs))
    assert found["Coarse alignment"] == pytest.approx(coarse(pairs))
    assert found["Entropy H, bits"] == pytest.approx(bits(pairs))


@pytest.mark.parametrize(("dataset", "system"), GROUPS)
def test_the_label_distribution_is_the_share_of_each_label(built: Built, dataset: str, system: str) -> None:
    counts = Counter(response for _, response in classifier_pairs(dataset, system))
    row = next(
        r
        for r in table(built.unverified, "label-distribution")
        if (r["dataset"], r["system"], r["by"]) == (titled(dataset), named(system), "classifier")
    )
    for emotion in EMOTIONS:
        assert row[emotion]["value"] == pytest.approx(counts[emotion] / counts.total())


@pytest.mark.parametrize(("dataset", "system"), [pair for pair in GROUPS if pair[1] != "reference"])
def test_f1_is_what_scikit_learn_gives(built: Built, dataset: str, system: str) -> None:
    pairs = classifier_pairs(dataset, system, against="reference")
    truth, said = zip(*pairs, strict=True)
    expected = f1_score(truth, said, labels=list(EMOTIONS), average=None, zero_division=0)
    rows = {
        r["emotion"]: r
        for r in table(built.unverified, "f1")
        if (r["dataset"], r["system"]) == (titled(dataset), named(system))
    }
    for emotion, value in zip(EMOTIONS, expected, strict=True):
        cell = rows[emotion]["f1_raw"]
        if emotion in {*truth, *said}:
            assert cell["value"] == pytest.approx(value)
        else:
            assert cell["value"] is None
            assert cell["reason"]
        assert rows[emotion]["support"] == truth.count(emotion)
        assert rows[emotion]["predicted"] == said.count(emotion)
    macro = next(
        r
        for r in table(built.unverified, "macro-f1")
        if (r["dataset"], r["system"]) == (titled(dataset), named(system))
    )
    assert macro["macro_raw"]["value"] == pytest.approx(f1_score(truth, said, average="macro", zero_division=0))
    assert macro["classes"] == f"{len({*truth, *said})} of 7"


@pytest.mark.parametrize(("dataset", "system"), GROUPS)
def test_the_confusion_matrix_counts_pairs_row_user_column_response(built: Built, dataset: str, system: str) -> None:
    counts = Counter(classifier_pairs(dataset, system))
    rows = [r for r in table(built.unverified, f"confusion-user-response-{dataset}") if r["system"] == named(system)]
    assert [row["row"] for row in rows] == list(EMOTIONS)
    for row in rows:
        total = sum(counts[row["row"], response] for response in EMOTIONS)
        assert row["turns"] == total
        for response in EMOTIONS:
            assert row[response] == counts[row["row"], response]
            share = row[f"{response}_share"]
            assert share == pytest.approx(counts[row["row"], response] / total) if total else share is None


@pytest.mark.parametrize(("dataset", "system"), GROUPS)
def test_the_papers_patterns_are_counted(built: Built, dataset: str, system: str) -> None:
    counts = Counter(classifier_pairs(dataset, system))
    rows = [
        r
        for r in table(built.unverified, "paper-patterns")
        if (r["dataset"], r["system"]) == (titled(dataset), named(system))
    ]
    assert len(rows) == 7
    for row in rows:
        assert row["turns"] == counts[row["user"], row["response"]]


# --- golden: the human numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dataset", "system"), GROUPS)
def test_values_of_the_human_labels_are_what_counting_gives(built: Built, dataset: str, system: str) -> None:
    pairs = human_pairs(dataset, system)
    row = next(
        r for r in table(built.report, "alignment") if (r["dataset"], r["system"]) == (titled(dataset), named(system))
    )
    assert row["verified"] == len(pairs)
    # Every turn was drawn with the same probability, so the weighted mean is the plain one.
    assert row["exact_verified"]["value"] == pytest.approx(exact(pairs))
    assert row["coarse_verified"]["value"] == pytest.approx(coarse(pairs))
    # Below 100 verified turns nothing is borrowed from the classifier.
    assert row["exact_corrected"]["value"] == pytest.approx(exact(pairs))
    counts = Counter(pairs)
    for matrix in table(built.report, f"confusion-user-response-verified-{dataset}"):
        if matrix["system"] == named(system):
            assert [matrix[e] for e in EMOTIONS] == [counts[matrix["row"], e] for e in EMOTIONS]


def test_agreement_is_what_counting_by_hand_gives(built: Built) -> None:
    row = table(built.report, "agreement")[0]
    # 24 items; one has a single label; d1/3 reference and e2/1 user differ: 21 of 23.
    assert (row["items"], row["annotators"]) == (24, 2)
    assert row["percent_agreement"]["value"] == pytest.approx(21 / 23)
    assert row["percent_agreement"]["n"] == 23


def test_the_validation_of_user_labels_is_what_post_stratifying_by_hand_gives(built: Built) -> None:
    row = next(r for r in table(built.report, "validation") if r["role"] == "user utterance" and r["dataset"] == "all")
    # 9 turns in the frame (d3/3 lacks an answer): joy 3, neutral 2, sadness, surprise, anger, fear 1 each; one of each
    # predicted label is verified; only the one predicted surprise is wrong (verified joy).
    assert row["accuracy"]["value"] == pytest.approx(8 / 9)


def test_ratings_are_counted_by_alignment(built: Built) -> None:
    counts: dict[str, Counter[int]] = {"aligned": Counter(), "misaligned": Counter()}
    for (dialogue, turn), scores in RATED.items():
        for system, value in scores.items():
            same = decided(dialogue, turn, "user") == decided(dialogue, turn, system)
            counts["aligned" if same else "misaligned"][value] += 1
    for row in table(built.report, "rating-distribution"):
        if row["flag"] == "exact match":
            assert [row[f"v{value}"] for value in range(1, 6)] == [counts[row["state"]][v] for v in range(1, 6)]
    quality = next(r for r in table(built.report, "quality") if r["flag"] == "exact match")
    # aligned: 4, 5; misaligned: 2, 1, 3, 2
    assert quality["aligned"]["value"] == pytest.approx(4.5)
    assert quality["misaligned"]["value"] == pytest.approx(2.0)


def test_cases_show_real_turns_with_the_labels_and_ratings_people_gave(built: Built) -> None:
    rows = table(built.report, "cases")
    assert {row["basis"] for row in rows} == {"human"}
    case = next(row for row in rows if row["pattern"] == "sadness → joy")
    assert (case["dialogue"], case["system"]) == ("d2", named("alpha"))
    assert case["user_labels"] == "r-a000: sadness; r-b000: sadness"
    assert case["ratings"] == "satisfaction: 1.00 (n = 1)"
    assert case["user_text"].startswith(HOSTILE)


# --- status and provenance -------------------------------------------------------------------------------------------


def test_a_report_without_any_human_label_says_so_in_its_title(built: Built) -> None:
    assert built.unverified["status"] == "unverified"
    assert built.unverified["title"].endswith("(unverified)")
    assert built.report["status"] == "partly verified"


def test_the_provenance_names_everything_the_numbers_depend_on(built: Built) -> None:
    found = built.report["provenance"]
    assert found["classifier"] == {
        "name": "program",
        "revision": "golden-1",
        "grouping": "dialogue/1",
        "temperature": {},
    }
    assert found["campaign"]["design"] == {"kind": "simple", "size": 6}
    assert found["counts"]["turns_outside_sampling_frame"] == 1
    assert found["as_of"] == built.run.as_of.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert set(found["packages"]) >= {"numpy", "pandas", "scipy"}
    for name, digest in found["digests"].items():
        assert hashlib.sha256((built.folder / name).read_bytes()).hexdigest() == digest


def test_every_figure_and_table_of_the_paper_has_its_counterpart(built: Built) -> None:
    named = {
        one["paper_counterpart"]
        for section in built.report["sections"]
        for one in [*section["tables"], *section["figures"]]
        if one["paper_counterpart"]
    }
    for wanted in ("Figure 1", "Figure 2", "Figure 3", "Figure 4", "Table 1", "Table 2", "Table 3"):
        assert any(wanted in name for name in named), wanted
    assert [section["number"] for section in built.report["sections"]] == list(range(11))


# --- the bundle ------------------------------------------------------------------------------------------------------


def test_the_manifest_lists_every_file_with_its_digest(built: Built) -> None:
    listed = json.loads((built.folder / "manifest.json").read_text())["files"]
    there = {p.relative_to(built.folder).as_posix() for p in built.folder.rglob("*") if p.is_file()}
    assert there == {*listed, "manifest.json"}
    for name, about in listed.items():
        content = (built.folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (about["bytes"], about["sha256"])
    for name in ("report.html", "report.pdf", "report.xlsx", "report.json", "codebook.md", "tidy/judgments.csv"):
        assert name in listed


def test_the_bundle_recomputes_byte_for_byte(built: Built) -> None:
    again = recompute(built.folder)
    assert dumps(again).encode() == (built.folder / "report.json").read_bytes()
    assert again.differences == ()


def test_anyone_can_recompute_it_from_the_zip_without_the_product(built: Built, tmp_path: Path) -> None:
    file = tmp_path / "bundle.zip"
    file.write_bytes(built.archive)
    done = subprocess.run(
        [sys.executable, "-m", "evaluation", "report", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "every number is reproduced" in done.stdout


def test_a_changed_label_in_the_bundle_is_found_out(built: Built, tmp_path: Path) -> None:
    copy = tmp_path / "changed"
    shutil.copytree(built.folder, copy)
    turns = copy / "tables" / "turns.csv"
    turns.write_text(turns.read_text().replace(",anger,", ",joy,", 1))
    assert recompute(copy).differences


def test_names_inside_the_archive_never_come_from_data(built: Built) -> None:
    with zipfile.ZipFile(io.BytesIO(built.archive)) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            assert re.fullmatch(r"report/(?:[a-z]+/)?[a-z0-9-]+\.[a-z]+(?:\.[a-z]+)?", name), name
        inside = {name.removeprefix("report/") for name in archive.namelist()}
    assert "page.html" not in inside
    assert inside == {file.name for file in reporting.files(built.run)}


def test_only_files_the_manifest_lists_can_be_opened(built: Built) -> None:
    with reporting.open_file(built.run, "report.json") as handle:  # type: ignore[union-attr]
        assert json.loads(handle.read()) == built.report
    for name in ("../../db.sqlite3", "/etc/passwd", "page.html/../settings.json", "nothing.csv", ""):
        assert reporting.open_file(built.run, name) is None


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parsed(markup: str) -> _Elements:
    reader = _Elements()
    reader.feed(markup)
    return reader


def test_the_page_needs_no_style_or_script_of_its_own_and_hostile_text_is_text(built: Built) -> None:
    page = parsed(str(reporting.page_body(built.run)))
    names = {tag for tag, _ in page.elements}
    assert not names & {"script", "style", "iframe", "object", "link", "img"}
    for _, attributes in page.elements:
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
    assert any("<script>alert(1)</script>" in words for words in page.words)
    identifiers = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))


def test_every_link_of_the_page_leads_somewhere(built: Built) -> None:
    page = parsed(str(reporting.page_body(built.run)))
    identifiers = {attributes.get("id") for _, attributes in page.elements}
    listed = {file.name for file in reporting.files(built.run)}
    links = [str(attributes["href"]) for tag, attributes in page.elements if tag == "a"]
    assert links
    for link in links:
        assert link[1:] in identifiers if link.startswith("#") else link.removeprefix("files/") in listed, link


def test_the_downloaded_page_is_complete_in_itself(built: Built) -> None:
    page = parsed((built.folder / "report.html").read_text())
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe"}
    assert any(tag == "svg" for tag, _ in page.elements)


def test_the_workbook_has_a_sheet_a_table_with_numbers_as_numbers_and_no_formula(built: Built) -> None:
    book = openpyxl.load_workbook(built.folder / "report.xlsx")
    tables = [one for section in built.report["sections"] for one in section["tables"]]
    assert len(book.sheetnames) == len(tables) + 1
    for sheet in book.worksheets:
        for row in sheet.iter_rows():
            for cell in row:
                assert cell.data_type != "f", (sheet.title, cell.coordinate)
    alignment = book["alignment"]
    assert alignment.freeze_panes == "B3"
    head = [cell.value for cell in alignment[2]]
    place = head.index("Exact %, classifier") + 1
    assert isinstance(alignment.cell(3, place).value, float | int)
    assert alignment.cell(3, place).number_format == "0.0%"
    case = book["cases"]
    texts = [cell.value for row in case.iter_rows(min_row=3) for cell in row if isinstance(cell.value, str)]
    assert any(text.startswith("=cmd|") for text in texts)


def test_no_cell_of_any_csv_can_become_a_formula_and_pandas_reads_them_all(built: Built) -> None:
    for path in sorted(built.folder.rglob("*.csv")):
        if not path.stat().st_size:
            continue
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        for column in frame.columns:
            for value in frame[column].unique():
                negative = re.fullmatch(r"-\d+(\.\d+)?(e[+-]\d+)?", value)
                assert negative or not value.startswith(("=", "+", "-", "@", "\t", "\r")), (path.name, column, value)


def test_results_as_csv_hold_the_numbers_of_the_report(built: Built) -> None:
    frame = pd.read_csv(built.folder / "results" / "alignment.csv")
    for line, row in zip(frame.to_dict("records"), table(built.report, "alignment"), strict=True):
        assert line["exact_raw"] == row["exact_raw"]["value"]
        assert line["exact_raw_n"] == row["exact_raw"]["n"]
        assert line["exact_raw_low"] == row["exact_raw"]["interval"][0]


def test_the_latex_tables_compile(built: Built, tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-recommended)")
    shutil.copytree(built.folder / "latex", tmp_path / "latex")
    shutil.copy(built.folder / "tables.tex", tmp_path)
    done = subprocess.run(
        [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "tables.log").read_text(errors="replace")
    assert "/etc/passwd" not in re.findall(r"\(([^()\s]+)", log)


def test_the_pdf_is_tagged_and_titled(built: Built) -> None:
    from pypdf import PdfReader

    reader = PdfReader(built.folder / "report.pdf")
    catalogue: Any = reader.trailer["/Root"]
    assert catalogue["/MarkInfo"]["/Marked"]
    assert "/StructTreeRoot" in catalogue
    assert reader.metadata
    assert reader.metadata.title == built.report["title"]
    text = reader.pages[0].extract_text()
    assert "Provenance and design" in text


def test_the_codebook_names_every_table(built: Built) -> None:
    text = (built.folder / "codebook.md").read_text()
    for section in built.report["sections"]:
        for one in section["tables"]:
            assert f"| {one['id']} |" in text


# --- runs: atomic, immutable, resumable ------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures: what these tests are about is not how a report looks."""
    monkeypatch.setattr("evaluation.figures.write_figures", lambda *given: {})


@pytest.fixture
def world(db: None) -> Corpus:
    return make_corpus()


QUICK = {"replicates": 20, "pdf": False}


def stored(run: ReportRun) -> list[str]:
    try:
        return [name for part in default_storage.listdir(f"reports/{run.pk}") for name in part]
    except FileNotFoundError:
        return []


@pytest.mark.usefixtures("quick")
def test_a_run_killed_while_saving_shows_nothing_and_can_be_run_again(
    world: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = reporting.create_run(campaign=world.campaign, parameters=QUICK)
    save, count = default_storage.save, iter(range(100))

    def dies(name: str, content: Any) -> str:
        if next(count) == 5:
            raise KeyboardInterrupt
        return save(name, content)

    with monkeypatch.context() as patch:
        patch.setattr(default_storage, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            reporting.finish_run(run)
    run.refresh_from_db()
    assert (run.finished_at, run.bundle, reporting.files(run)) == (None, "", [])
    done = reporting.finish_run(run)
    assert done.finished_at
    assert len(stored(done)) == 1


@pytest.mark.usefixtures("quick")
def test_a_full_disk_is_said_in_words_and_leaves_nothing(world: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    run = reporting.create_run(campaign=world.campaign, parameters=QUICK)

    def full(name: str, content: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(default_storage, "save", full)
    with pytest.raises(reporting.ReportError, match=r"no space left.*Free some space"):
        reporting.finish_run(run)
    run.refresh_from_db()
    assert run.finished_at is None
    assert stored(run) == []


@pytest.mark.usefixtures("quick")
def test_a_disk_that_fills_up_in_the_midst_of_a_bundle_holds_nothing_of_it_and_the_next_run_is_whole(
    world: Corpus, small_disk: Callable[[int], Path], settings: Any
) -> None:
    settings.MEDIA_ROOT = str(small_disk(16))
    filler = Path(settings.MEDIA_ROOT) / "filler"
    room = shutil.disk_usage(settings.MEDIA_ROOT).free
    filler.write_bytes(b"x" * (room - (200 << 10)))  # some files of the bundle fit, the bundle does not
    run = reporting.create_run(campaign=world.campaign, parameters=QUICK)
    with pytest.raises(reporting.ReportError, match=r"no space left.*Free some space"):
        reporting.finish_run(run)
    run.refresh_from_db()
    assert run.finished_at is None
    assert [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()] == [filler]
    filler.unlink()
    done = reporting.finish_run(run)
    assert done.finished_at
    assert reporting.manifest(done)["files"]


@pytest.mark.usefixtures("quick")
def test_a_finished_run_never_changes_whatever_is_judged_later(world: Corpus) -> None:
    run = reporting.build_report(campaign=world.campaign, parameters=QUICK)
    before = (run.bundle, run.finished_at, reporting.manifest(run))
    Judgment.objects.all().update(label="anger")
    again = reporting.finish_run(run)
    assert (again.bundle, again.finished_at, reporting.manifest(again)) == before


@pytest.mark.usefixtures("quick")
def test_a_cancelled_run_shows_nothing(world: Corpus) -> None:
    def cancel(done: int, total: int, message: str) -> None:
        if done == 3:
            raise jobs.Cancelled

    with pytest.raises(jobs.Cancelled):
        reporting.build_report(campaign=world.campaign, parameters=QUICK, progress=cancel)
    assert ReportRun.objects.get().finished_at is None


@pytest.mark.usefixtures("quick")
def test_progress_counts_up_to_the_number_of_steps(world: Corpus) -> None:
    seen: list[tuple[int, int, str]] = []
    reporting.build_report(campaign=None, parameters=QUICK, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(len(reporting.STEPS)))
    assert {total for _, total, _ in seen} == {len(reporting.STEPS)}


@pytest.mark.usefixtures("quick")
def test_a_job_run_again_after_a_kill_goes_on_with_its_own_run(world: Corpus) -> None:
    job = Job.objects.create(kind="report", parameters={"campaign": "pilot", "seed": 3, **QUICK})
    first = reporting.report_for_job(job)
    second = reporting.report_for_job(job)
    assert first == second
    run = ReportRun.objects.get()
    assert (run.job, run.parameters["seed"], run.campaign) == (job, 3, world.campaign)


@pytest.mark.usefixtures("quick")
def test_two_runs_are_compared_number_by_number(world: Corpus) -> None:
    first = reporting.build_report(campaign=world.campaign, parameters=QUICK)
    assert reporting.compare(first, first) == []
    item = Judgment.objects.filter(item__kind="user", label="anger").values("item")[:1]
    Judgment.objects.filter(item__in=item).update(label="joy")
    second = reporting.build_report(campaign=world.campaign, parameters=QUICK)
    changed = [row for row in reporting.compare(first, second) if row.table == "Alignment by data set and system"]
    assert changed or reporting.compare(first, second)
    assert all(row.before != row.after for row in reporting.compare(first, second))


def test_judgments_after_the_run_was_asked_for_are_not_used(world: Corpus, quick: None) -> None:
    run = reporting.create_run(campaign=world.campaign, parameters=QUICK)
    Judgment.objects.update(received_at=run.as_of.replace(year=run.as_of.year + 1))
    done = reporting.finish_run(run)
    assert reporting.load_report(done)["status"] == "unverified"
    assert done.provenance["counts"]["after_as_of"] == Judgment.objects.count()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"colour": "blue"}, "Unknown report parameters: colour"),
        ({"arms": "both"}, "independent"),
        ({"replicates": -1}, "from 0 to 100,000"),
        ({"pooling_margin": 1.5}, "above 0 and below 1"),
        ({"grouping": "zodiac"}, "zodiac"),
    ],
)
def test_parameters_that_cannot_be_are_refused_when_the_run_is_made(
    world: Corpus, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises((reporting.ReportError, ValueError), match=message):
        reporting.create_run(campaign=None, parameters=parameters)
    assert not ReportRun.objects.exists()


def test_both_arms_count_only_where_the_margin_holds_else_the_hidden_one_and_the_bundle_says_so(
    world: Corpus, quick: None, tmp_path: Path
) -> None:
    """Bo saw the pre-label and took it over; Ada did not see it. The effect has no interval inside any small margin."""
    Campaign.objects.filter(pk=world.campaign.pk).update(mode="assisted")
    for slot in Slot.objects.filter(task="verify").select_related("item"):
        label = slot.judgments.get().label
        arm = "shown" if (slot.number + slot.item_id) % 2 else "hidden"
        Slot.objects.filter(pk=slot.pk).update(arm=arm, prelabel=label if arm == "shown" else "disgust")
    found = {}
    for arms, margin in (("independent", 0.05), ("all", 0.05)):
        folder = tmp_path / f"{arms}-{margin}"
        asked = {**QUICK, "arms": arms, "pooling_margin": margin}
        run = reporting.build_report(campaign=world.campaign, parameters=asked, folder=folder)
        assert recompute(folder).differences == ()
        found[arms] = reporting.load_report(run), run.provenance, (folder / "tables" / "turns.csv").read_text()
    report, provenance, turns = found["all"]
    assert turns == found["independent"][2]
    assert (provenance["arms"], provenance["arms_asked_for"]) == ("independent", "all")
    assert report["settings"]["verified_arms"] == "hidden"
    (said,) = [text for text in report["sections"][7]["warnings"] if "Pooling" in text]
    assert "labels of the hidden arm alone count" in said


def test_metric_options_that_cannot_be_fail_the_run_saying_which(world: Corpus, quick: None) -> None:
    run = reporting.create_run(campaign=None, parameters={**QUICK, "options": {"surprise": "sideways"}})
    with pytest.raises(reporting.ReportError, match="sideways"):
        reporting.finish_run(run)


def test_without_data_or_predictions_a_report_says_what_to_do_first(db: None, quick: None) -> None:
    with pytest.raises(reporting.ReportError, match="Import dialogues first"):
        reporting.create_run()
    make_corpus()
    Prediction.objects.all().delete()
    with pytest.raises(reporting.ReportError, match="Pre-label them first"):
        reporting.build_report(campaign=None, parameters=QUICK)


def test_a_campaign_without_a_single_answer_gives_an_unverified_report(world: Corpus, quick: None) -> None:
    empty = Campaign.objects.create(name="empty", title="Empty", classifier=world.classifier)
    empty.datasets.set(world.datasets)
    empty.systems.set(world.systems)
    run = reporting.build_report(campaign=empty, parameters=QUICK)
    assert reporting.load_report(run)["status"] == "unverified"


def test_the_command_leaves_a_bundle_that_recomputes(world: Corpus, quick: None, tmp_path: Path) -> None:
    call_command(
        "build_report",
        "--campaign",
        "pilot",
        "--replicates",
        "20",
        "--no-pdf",
        "--output",
        str(tmp_path / "out"),
        verbosity=0,
    )
    assert recompute(tmp_path / "out").differences == ()
    with pytest.raises(CommandError, match="not empty"):
        call_command("build_report", "--output", str(tmp_path / "out"))
    with pytest.raises(CommandError, match="no campaign called"):
        call_command("build_report", "--campaign", "nothing")
