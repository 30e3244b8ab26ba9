"""Insert many rows of one table at once.

`bulk_create` builds a model instance and asks every field for every row: two thirds of the time of an import. Rows here
are tuples of database values (JSON columns: the plain structure), and what is not named takes the field's default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import JSONField, Model


def insert_rows(
    model: type[Model], columns: Sequence[str], rows: Iterable[Sequence[Any]], *, ignore_conflicts: bool = False
) -> int:
    """Insert `rows`, whose values stand in the order of `columns` (attribute names); return how many were given.

    Constraints are the database's; model validation and signals do not run. Call it inside a transaction.
    """
    connection = connections[router.db_for_write(model) or DEFAULT_DB_ALIAS]
    quote = connection.ops.quote_name
    fields = {field.attname: field for field in model._meta.concrete_fields}
    rest = [name for name, field in fields.items() if name not in columns and (not field.primary_key)]
    defaults = [_encoder(fields[name])(fields[name].get_default()) for name in rest]
    encoders = [_encoder(fields[name]) if isinstance(fields[name], JSONField) else None for name in columns]
    names = ", ".join(quote(str(fields[name].column)) for name in (*columns, *rest))
    marks = ", ".join(["%s"] * (len(columns) + len(rest)))
    ending = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    statement = f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({marks}){ending}"
    values = [
        [
            *(value if encode is None else encode(value) for value, encode in zip(row, encoders, strict=True)),
            *defaults,
        ]
        for row in rows
    ]
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(statement, values)
    return len(values)


def _encoder(field: Any) -> Callable[[Any], Any]:
    if isinstance(field, JSONField):
        return lambda value: json.dumps(value, ensure_ascii=False)
    return lambda value: value
