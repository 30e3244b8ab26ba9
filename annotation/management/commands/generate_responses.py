"""Have a system answer turns: `generate_responses --system llama-3.1-8b-instant --dataset redial --split test`."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.inference.generator import GenerationError
from annotation.inference.parameters import GenerationParameters
from annotation.inference.systems import RegistryError, registry
from annotation.workflow.generate import generate_responses, operator_of_settings
from annotation.workflow.published import check_reason
from annotation.workflow.totals import GenerationSummary

REFUSED, STOPPED, NOTHING, FAILED, CAPPED, INTERRUPTED = 1, 2, 3, 4, 5, 130
"""Exit statuses beside 0, everything answered (docs/generation.md): refused before anything was asked, stopped early,
nothing answered, some turns failed, stopped at the cap, interrupted."""

_WORDS: Final = {
    STOPPED: "It had to stop early.",
    NOTHING: "Nothing was answered.",
    FAILED: "Some turns failed; run again to ask them once more.",
    CAPPED: "It stopped at the cap; run again, with a new cap, to go on.",
    INTERRUPTED: "Interrupted; what came is stored. Run again to go on.",
}


def status_of(summary: GenerationSummary) -> int:
    """Give the exit status that says how a run ended."""
    if summary.ended in ("complete", "dry run"):
        return NOTHING if summary.nothing_answered else FAILED if summary.failed else 0
    if summary.ended == "interrupted":
        return INTERRUPTED
    return NOTHING if summary.nothing_answered else CAPPED if summary.ended == "capped" else STOPPED


class Command(BaseCommand):
    help = (
        "Generate a system's responses as the paper does (Appendix A, greedy, 128 new tokens). Run again to go on: "
        "what was answered is never asked again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--system", help="A system of the registry (--list), or a name of your own.")
        parser.add_argument("--list", action="store_true", help="List the registry and stop.")
        turns = parser.add_argument_group("which turns")
        turns.add_argument("--dataset", dest="datasets", action="append", help="May be repeated; default: all.")
        turns.add_argument("--split")
        turns.add_argument("--campaign", help="Only the turns sampled into this campaign.")
        turns.add_argument("--limit", type=int, help="Only the first so many turns, answered ones counted.")
        turns.add_argument("--without-reference", action="store_true", default=None)
        who = parser.add_argument_group("who answers")
        who.add_argument("--family", help="One of the registry's endpoint families.")
        who.add_argument("--base-url")
        who.add_argument("--model", help="The model's name at the endpoint.")
        who.add_argument("--key-env", help="The environment variable that holds the key (…_API_KEY).")
        who.add_argument("--local", dest="model_folder", help="The folder of a local model, in place of an endpoint.")
        who.add_argument("--device", help="Of a local model: auto, cpu, cuda.")
        who.add_argument("--batch-size", type=int)
        who.add_argument(
            "--as-is",
            default="",
            metavar="REASON",
            help="Why another model's name may stand under a published system; kept with every answer.",
        )
        how = parser.add_argument_group("how it is asked")
        how.add_argument("--template")
        how.add_argument("--history", type=int, help="Earlier utterances shown; 0 as in the paper, -1 all.")
        how.add_argument("--max-new-tokens", type=int)
        how.add_argument("--seed", type=int)
        how.add_argument("--stream", action="store_true", default=None)
        how.add_argument("--language", help="Expected in the answers; '' for no check.")
        how.add_argument("--mixed", action="store_true", default=None, help="Go on although asked otherwise before.")
        pace = parser.add_argument_group("pace and caps")
        pace.add_argument("--per-minute", type=float, help="Requests per minute at most.")
        pace.add_argument("--concurrency", type=int)
        pace.add_argument("--attempts", type=int)
        pace.add_argument("--seconds", type=float, help="For one request.")
        pace.add_argument("--give-up-after", type=int, help="Failures in a row that end the run.")
        pace.add_argument("--price-in", type=float, help="US dollars per million tokens.")
        pace.add_argument("--price-out", type=float)
        pace.add_argument("--cap-requests", type=int)
        pace.add_argument("--cap-tokens", type=int)
        pace.add_argument("--cap-cost", type=float)
        pace.add_argument("--dry-run", action="store_true", default=None, help="Show prompts and counts, ask nothing.")
        pace.add_argument("--examples", type=int, help="Prompts of each case that a dry run shows.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list"]:
            self._list()
            return
        if not options["system"]:
            raise CommandError("Name a system with --system, or see --list.")
        names = {field.name for field in fields(GenerationParameters)}
        given = {name: value for name, value in options.items() if name in names and value is not None}
        if "model_folder" in given:
            given["backend"] = "local"
        try:
            with self._interruptible():
                summary = generate_responses(
                    system=options["system"],
                    parameters=GenerationParameters.from_mapping(given),
                    progress=self._progress,
                    operator=operator_of_settings(at_the_console=True),
                    as_is=check_reason(options["as_is"]),
                )
        except GenerationError as error:
            raise CommandError(str(error), returncode=REFUSED) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted before anything was asked.", returncode=INTERRUPTED) from None
        self._show(summary)
        if status := status_of(summary):
            raise CommandError(_WORDS[status], returncode=status)

    _told = 0.0
    _interrupted = False

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Hear Ctrl-C between two answers, never in the midst of storing one; a second one is not waited for."""

        def hear(number: int, frame: Any) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            self.stderr.write("Stopping; waiting for what is under way (Ctrl-C again: do not wait) …")

        try:
            before = signal.signal(signal.SIGINT, hear)
        except ValueError:  # not the main thread: a test, or a program that calls this command
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _progress(self, done: int, total: int, message: str) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        now = time.monotonic()
        if now - self._told > 5:
            self._told = now
            self.stderr.write(f"{done} of {total}: {message}")

    def _show(self, summary: GenerationSummary) -> None:
        for example in summary.examples:
            self.stdout.write(f"--- {example['case']}: turn {example['turn']}, prompt {example['digest'][:12]}")
            for message in example["messages"]:
                self.stdout.write(f"[{message['role']}]\n{message['content']}")
        for title, counts in (("cases", summary.cases), ("flags", summary.flags), ("failures", summary.failures)):
            if counts:
                self.stdout.write(f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))
        for warning in summary.warnings:
            self.stdout.write(f"warning: {warning}")
        if summary.adapted:
            self.stdout.write(f"not accepted by the endpoint, so left out: {', '.join(summary.adapted)}")
        if summary.answers_without_token_counts:
            self.stdout.write(f"answers without token counts: {summary.answers_without_token_counts}")
        self.stdout.write(f"{summary.system} ({summary.template}): {summary.sentence()}")

    def _list(self) -> None:
        for entry in registry().systems:
            self.stdout.write(f"{entry.name}  ({entry.title}: {entry.published_name})")
            for one in entry.served_by:
                state = f"retired {one.retired}" if one.retired else "checked" if one.checked else "not checked by us"
                self.stdout.write(f"    {one.family.name}: {one.model} [{state}], key in {one.family.key_env}")
            weights = entry.open_weights or "never published"
            other = " (another model)" if entry.open_weights and not entry.same_weights else ""
            self.stdout.write(f"    open weights: {weights}{other}")
            try:
                self.stdout.write(f"    --system {entry.name} asks {entry.serving().family.name}")
            except RegistryError as error:
                self.stdout.write(f"    {error}")
