"""What a system under study is asked at a turn: which of the paper's two cases holds, and the words of the prompt.

A template is a folder with `case1.txt` (no recommendation available) and `case2.txt` (recommendation available), and
optionally `system.txt` (a system message) and `template.toml` (title, source, note). Placeholders: `{user_input}`,
`{recommendation}` (case 2 only), `{history}`; a literal brace is doubled. A template's version is its folder's name and
a digest of its words, so that a changed word is another version whoever changes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

BUILT_IN: Final = Path(__file__).resolve().parent / "prompts"
DEFAULT_TEMPLATE: Final = "appendix-a-1"
MAX_TEMPLATE_CHARACTERS: Final = 20_000

Role = Literal["user", "recommender"]
Message = Mapping[Literal["role", "content"], str]
Recommendation = Literal["none", "given", "empty", "ambiguous"]

_REQUIRED: Final = {"case1": {"user_input"}, "case2": {"user_input", "recommendation"}, "system": set[str]()}
_ALLOWED: Final = {
    "case1": {"user_input", "history"},
    "case2": {"user_input", "recommendation", "history"},
    "system": set[str](),
}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NO_YEAR: Final = re.compile(r"\s*\(\s*\)\s*$")
_YEAR: Final = re.compile(r"\s*\((?:18|19|20)\d\d\)\s*$")
_SLOT: Final = re.compile(r"^(?:@\d+|<movie>|\[[A-Z_0-9]+\])$")
_SPEAKER: Final = {"user": "User", "recommender": "Recommender"}


class TemplateError(Exception):
    """A template that cannot be used; the message names the file and says what to change."""


@dataclass(frozen=True)
class Said:
    """One utterance as the prompt needs it: who, the words shown, the titles mentioned."""

    role: Role
    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class TurnData:
    """A turn: what was said before and up to the user utterance to answer, and the items the reference response names.

    `said` ends with the user utterance. `reference_items` is None where the dialogue has no reference response.
    """

    said: tuple[Said, ...]
    reference_items: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.said or self.said[-1].role != "user":
            raise ValueError("A turn ends with what the user said.")


@dataclass(frozen=True)
class Case:
    """Which template holds and what is recommended: `none` and case 1, or `given`, `empty`, `ambiguous` and case 2."""

    number: Literal[1, 2]
    recommendation: Recommendation
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Template:
    """The words of both cases, checked, with the version that a response keeps."""

    name: str
    case1: str
    case2: str
    system: str = ""
    title: str = ""
    source: str = ""

    @property
    def version(self) -> str:
        """The folder's name and twelve digits of the digest of all words: `appendix-a-1@3f2a…`."""
        words = json.dumps([self.case1, self.case2, self.system], ensure_ascii=False)
        return f"{self.name}@{hashlib.sha256(words.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt: the chat messages, and what they were made from."""

    messages: tuple[Message, ...]
    case: Case
    template: str
    history: int

    @property
    def digest(self) -> str:
        """SHA-256 over the messages as they are sent."""
        return hashlib.sha256(json.dumps([dict(m) for m in self.messages], ensure_ascii=False).encode()).hexdigest()

    @property
    def characters(self) -> int:
        return sum(len(message["content"]) for message in self.messages)


def title_key(title: str) -> tuple[str, str]:
    """Give the form in which equal titles are equal: (title without year, year or nothing), both folded."""
    folded = " ".join(unicodedata.normalize("NFKC", _NO_YEAR.sub("", title)).casefold().split())
    year = _YEAR.search(folded)
    return _YEAR.sub("", folded), year.group(0).strip(" ()") if year else ""


def same_title(one: str, other: str) -> bool:
    """Say whether two titles name one item: equal words, and equal years unless one of them has none."""
    (words, year), (other_words, other_year) = title_key(one), title_key(other)
    return words == other_words and (year == other_year or not year or not other_year)


def recommended(turn: TurnData) -> tuple[str, ...]:
    """Give the items that the reference response names and the user has not mentioned so far, in its order.

    Unfilled slots (`@123`, `<movie>`, `[MOVIE_TITLE_0]`) name nothing and are left out; a repeated title counts once.
    The empty brackets of a title whose year the corpus does not know (`Akira ()`) are no part of it.
    """
    mentioned = [item for said in turn.said if said.role == "user" for item in said.items]
    fresh: list[str] = []
    for item in turn.reference_items or ():
        title = _NO_YEAR.sub("", " ".join(item.split()))
        if not title or _SLOT.match(title) or any(same_title(title, known) for known in [*mentioned, *fresh]):
            continue
        fresh.append(title)
    return tuple(fresh)


def choose_case(turn: TurnData) -> Case:
    """Choose between the paper's two cases from the turn's data.

    Case 1, no recommendation available: the reference response names no item (or there is none). Case 2 otherwise; the
    recommendation is what `recommended` gives. When that is nothing, because the user had named every item or only
    unfilled slots are left, the recommendation is *empty* and stays so in the prompt: the paper's Example 2 then tells
    the system to ask about likings. It is *ambiguous* when two recommended items share their words and differ in the
    year; the paper's Example 3 then tells the system to clarify. Both stay case 2, whose words carry the two rules.
    """
    if not turn.reference_items:
        return Case(1, "none")
    items = recommended(turn)
    if not items:
        return Case(2, "empty")
    words = [title_key(item)[0] for item in items]
    return Case(2, "ambiguous" if len(set(words)) < len(words) else "given", items)


def earlier(said: Sequence[Said], history: int) -> str:
    """Write the last `history` utterances before the user's own (-1: all), or nothing, for the place of `{history}`."""
    before = said[:-1]
    chosen = before if history < 0 else before[max(0, len(before) - history) :]
    if not chosen:
        return ""
    lines = "\n".join(f"{_SPEAKER[one.role]}: {' '.join(one.text.split())}" for one in chosen)
    return f"Conversation so far:\n{lines}\n\n"


def render(template: Template, turn: TurnData, *, history: int = 0) -> Prompt:
    """Write the prompt for one turn.

    Parameters
    ----------
    history
        How many utterances before the user's own are shown; 0, the paper's way, shows the user query alone; -1 all.
    """
    case = choose_case(turn)
    words = template.case1 if case.number == 1 else template.case2
    if history and "history" not in _fields(words):
        raise TemplateError(
            f"The template {template.name} has no {{history}} place, so no history can be shown with it."
        )
    values = {
        "user_input": " ".join(turn.said[-1].text.split()),
        "recommendation": ", ".join(case.items),
        "history": earlier(turn.said, history),
    }
    messages: list[Message] = []
    if template.system:
        messages.append({"role": "system", "content": _filled(template.system, values)})
    messages.append({"role": "user", "content": _filled(words, values)})
    return Prompt(tuple(messages), case, template.version, history)


def _filled(words: str, values: Mapping[str, str]) -> str:
    # Not str.format over its own output: a user who writes "{history}" has said just that.
    pieces = (text + (values[field] if field else "") for text, field, _, _ in string.Formatter().parse(words))
    return "".join(pieces)


def _fields(words: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(words) if field}


def check_template(name: str, parts: Mapping[str, str]) -> None:
    """Refuse a template whose placeholders are not the known ones, or that leaves out what it must say.

    Raises
    ------
    TemplateError
        Names the part, what is wrong, and what is allowed there.
    """
    if not _NAME.fullmatch(name):
        raise TemplateError("A template's name is made of a-z, 0-9, dots, dashes and underscores, 64 at most.")
    for part, words in parts.items():
        where = f"{name}/{part}.txt"
        if not words.strip() and part != "system":
            raise TemplateError(f"{where} is missing or empty.")
        if len(words) > MAX_TEMPLATE_CHARACTERS:
            raise TemplateError(f"{where} is longer than {MAX_TEMPLATE_CHARACTERS} characters.")
        try:
            parsed = list(string.Formatter().parse(words))
        except ValueError as error:
            raise TemplateError(f"{where}: {error}; write a literal brace twice: {{{{ or }}}}.") from None
        for _, field, spec, conversion in parsed:
            if field in _ALLOWED[part] and (spec or conversion):
                raise TemplateError(f"{where}: write {{{field}}} alone, without anything behind the name.")
            if field is not None and field not in _ALLOWED[part]:
                allowed = ", ".join(f"{{{one}}}" for one in sorted(_ALLOWED[part])) or "none"
                raise TemplateError(f"{where}: {{{field}}} is no placeholder of this part (allowed: {allowed}).")
        missing = _REQUIRED[part] - _fields(words)
        if missing:
            raise TemplateError(f"{where}: {', '.join(f'{{{one}}}' for one in sorted(missing))} is missing.")


def load_template(name: str = DEFAULT_TEMPLATE, folders: Iterable[Path] = ()) -> Template:
    """Read a template by its folder's name, from the given folders first, then from those that come with Attune.

    Raises
    ------
    TemplateError
        There is no such template (says which there are), or it is not well formed.
    """
    if not _NAME.fullmatch(name):
        raise TemplateError("A template is named by its folder: a-z, 0-9, dots, dashes and underscores.")
    for folder in [*folders, BUILT_IN]:
        if (folder / name / "case1.txt").is_file() or (folder / name / "case2.txt").is_file():
            return _read(folder / name)
    raise TemplateError(f"There is no template {name}. There are: {', '.join(template_names(folders))}.")


def template_names(folders: Iterable[Path] = ()) -> list[str]:
    """List the templates that can be named, own ones and those that come with Attune."""
    return sorted(
        {
            entry.parent.name
            for folder in [*folders, BUILT_IN]
            if folder.is_dir()
            for entry in folder.glob("*/case1.txt")
        }
    )


def _read(folder: Path) -> Template:
    parts: dict[str, str] = {}
    try:
        for part in ("case1", "case2", "system"):
            path = folder / f"{part}.txt"
            # utf-8-sig: some editors begin a file with a mark that is no part of the words.
            text = path.read_text(encoding="utf-8-sig") if path.is_file() else ""
            parts[part] = text.replace("\r\n", "\n").rstrip("\n")
        parts["system"] = parts["system"] if parts["system"].strip() else ""
        about = folder / "template.toml"
        known = tomllib.loads(about.read_text(encoding="utf-8-sig")) if about.is_file() else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TemplateError(f"The template {folder.name} cannot be read: {type(error).__name__}.") from None
    check_template(folder.name, parts)
    return Template(
        name=folder.name,
        case1=parts["case1"],
        case2=parts["case2"],
        system=parts["system"],
        title=str(known.get("title", "")),
        source=str(known.get("source", "")),
    )
