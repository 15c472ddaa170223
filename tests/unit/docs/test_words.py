"""What the reference says beside the code is about what the code has: no more, no less."""

from collections.abc import Iterator
from typing import Any

from controller.desired.schema.documents import DOCUMENTS
from controller.desired.schema.tree import fields
from controller.planning.compare.changes import change_class
from controller.planning.conditions import ConditionType, Health, Printable, Sync
from docs.generating import changes, field_types, reasons, words


def _models(model: Any, seen: set[Any]) -> Iterator[Any]:
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in fields(model).values():
        inner = field_types.model_of(field.annotation)
        if inner is not None and not field_types.is_text_form(field.annotation, field.metadata):
            yield from _models(inner, seen)


def test_every_field_has_a_sentence_and_every_sentence_a_field() -> None:
    used: set[str] = set()
    for document in DOCUMENTS.values():
        for model in _models(document, set()):
            if model in DOCUMENTS.values():
                continue
            for name in fields(model):
                keys = [f"{owner.__name__}.{name}" for owner in model.__mro__]
                found = next((key for key in keys if key in words.FIELDS), None)
                assert found is not None, f"words.FIELDS has nothing about {keys[0]}"
                used.add(found)
    assert words.FIELDS.keys() == used


def test_every_word_of_a_status_is_explained() -> None:
    assert words.CONDITIONS.keys() == {word.value for word in ConditionType}
    assert words.STATUSES.keys() == {word.value for word in Printable}
    assert words.SYNC.keys() == {word.value for word in Sync}
    assert words.HEALTH.keys() == {word.value for word in Health}


def test_every_reason_in_the_code_is_explained_and_no_other() -> None:
    assert words.CONDITION_REASONS.keys() == reasons.condition_reasons()
    assert words.BUILD_REASONS.keys() == reasons.build_reasons()
    assert words.STEP_REASONS.keys() == reasons.step_reasons()
    assert words.EVENT_REASONS.keys() == reasons.event_reasons()


def test_the_fields_of_the_change_matrix_have_the_class_that_plan_prints() -> None:
    page = changes.text()
    for path in ("cpu.vcpus", "disks[].pool", "interfaces[].user", "services", "runStrategy"):
        assert f"| `{path}` | `{change_class(path).value}` |" in page
