"""Files of published and own corpora -> plain records. Saves nothing, imports no framework."""

from __future__ import annotations

from annotation.corpora.chats import read_chats
from annotation.corpora.dialogue import BadRow, CorpusError, Dialogue, Response, Utterance
from annotation.corpora.inspired import read_inspired
from annotation.corpora.opening import Corpus, open_corpus
from annotation.corpora.redial import read_redial
from annotation.corpora.responses import read_responses
from annotation.corpora.table import Columns, read_table

__all__ = [
    "BadRow",
    "Columns",
    "Corpus",
    "CorpusError",
    "Dialogue",
    "Response",
    "Utterance",
    "open_corpus",
    "read_chats",
    "read_inspired",
    "read_redial",
    "read_responses",
    "read_table",
]
