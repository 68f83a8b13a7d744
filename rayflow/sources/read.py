"""Raw rows to records: the layout applied, unusable rows and exact duplicates set apart with their reasons.

Row out: `Example`, or `Prompt` where only the prompts are wanted, each content once. Only the ids seen so far
are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from rayflow.core.given_rows import Example
from rayflow.core.ids import labelled_id, prompt_id
from rayflow.core.options import build
from rayflow.core.registry import is_plug_in
from rayflow.core.rows import Failure, Prompt
from rayflow.errors import DataError, RayflowError
from rayflow.sources.base import EMPTY_RESPONSE, IDENTICAL, NO_ANSWER, OTHER_SPLIT, Layout, RowError
from rayflow.sources.fields import refuse_tools_and_images
from rayflow.sources.files import read_rows

if TYPE_CHECKING:
    from rayflow.config import PromptSource

DUPLICATES = {Prompt: "duplicate prompt", Example: "duplicate example"}
DROPPED = frozenset({*DUPLICATES.values(), OTHER_SPLIT})
"""Reasons of rows that were left out on purpose: counted, but not as failed."""


def read(source: PromptSource, record: type[Prompt] = Example) -> Iterator[Prompt | Failure]:
    """Records of a source in order; a row that cannot be used, or came before, is a `Failure`.

    Args:
        source: where the rows come from, and their layout.
        record: `Example`, named by its prompt and responses, and by its labels where an earlier row has others for
            the same responses; or `Prompt`, named by its prompt alone, which ignores responses, unusable ones too.

    Raises:
        DataError: a file cannot be read.
    """
    seen: set[bytes] = set()
    for where, found in _made(source, _checked if record is Example else _prompt):
        if isinstance(found, Failure):
            yield found
            continue
        name = _new_name(found, seen)
        if name is None:
            yield Failure(prompt_id=found.prompt_id, reason=DUPLICATES[record], detail=where)
        else:
            yield found if name == found.prompt_id else replace(found, prompt_id=name)


def _new_name(made: Prompt, seen: set[bytes]) -> str | None:
    """The id of a row, which is then seen; None where it came before.

    Of rows with the same responses and other labels the first keeps the id without labels, which stored runs know
    it by: `verify --repair` writes prompts again, and later stages must find them.
    """
    names = [made.prompt_id]
    if isinstance(made, Example):
        names.append(labelled_id(made.prompt_id, made.pairs, made.rewards))
    keys = [bytes.fromhex(name) for name in names]  # half the memory of the text
    new = [name for name, key in zip(names, keys, strict=True) if key not in seen]
    if names[-1] not in new:
        return None
    seen.update(keys)
    return new[0]


def read_answers(source: PromptSource) -> Iterator[Example | Failure]:
    """What somebody answered, row by row: to be judged, so an answer that is empty or was given before counts, too.

    Raises:
        DataError: a file cannot be read.
    """
    return (found for _, found in _made(source, lambda made: made, of_one=True))


def _made(
    source: PromptSource, taken: Callable[[Example], Any], of_one: bool = False
) -> Iterator[tuple[str, Any]]:
    """Where each row stands, and what `taken` makes of its example; or a `Failure`.

    Args:
        source: as above.
        taken: from an `Example` to what is wanted of it; may raise DataError.
        of_one: refuse rows whose responses are not from one author: a chosen and a rejected one.
    """
    layout: Layout = build("layout", source.layout)
    own = is_plug_in(layout)
    for count, row in enumerate(islice(read_rows(source), source.limit), start=1):
        where = f"{row.path}, row {row.number}"
        try:
            if not own:  # which may know what to do with them
                refuse_tools_and_images(row.values, "the row")
            made = layout.example(row.values)
            if of_one and made.pairs and "responses" not in row.values:
                raise RowError(NO_ANSWER, "a chosen and a rejected response are no answers of one policy")
            yield where, taken(made)
        except Exception as error:
            if not isinstance(error, DataError) and (isinstance(error, RayflowError) or not own):
                raise
            reason = error.reason if isinstance(error, RowError) else "malformed row"
            said = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            yield where, Failure(prompt_id=f"row-{count}", reason=reason, detail=f"{where}: {said}"[:1000])


def _prompt(made: Example) -> Prompt:
    return Prompt(
        prompt_id=prompt_id(made.prompt, made.messages),
        prompt=made.prompt,
        messages=made.messages,
        target=made.target,
    )


def _checked(made: Example) -> Example:
    """Refuse responses that nothing could be learnt from."""
    for index, response in enumerate(made.responses):
        if not response.strip():
            raise RowError(EMPTY_RESPONSE, f"response {index} of {len(made.responses)} is empty")
    if made.target is not None and not made.target.strip():
        raise RowError(EMPTY_RESPONSE, "the target is empty")
    for chosen, rejected in made.pairs:
        if made.responses[chosen].strip() == made.responses[rejected].strip():
            raise RowError(IDENTICAL, "chosen and rejected are the same text")
    return made
