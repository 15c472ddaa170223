"""Equal parts of documents are one object, and all documents still say what they said."""

import gc
import weakref

import yaml

from controller.desired.schema.documents import GuestDocument
from controller.desired.text.parse import read_documents

GUEST = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {{name: {name}}}
spec:
  image: debian12
  cpu: {{vcpus: 1{more}}}
  memory: {{size: {size}}}
  disks: [{{name: data, size: 1Gi}}]
  services: [{{name: web, packages: [nginx], files: [{{path: /etc/x, content: "{content}"}}]}}]
"""


def text(name: str, size: str = "64Mi", content: str = "a", more: str = "") -> str:
    return GUEST.format(name=name, size=size, content=content, more=more)


def guest(*words: str, **fields: str) -> GuestDocument:
    (loaded,) = read_documents(text(*words, **fields).encode(), "guest.yaml")
    assert isinstance(loaded.model, GuestDocument), loaded.problems
    return loaded.model


def test_equal_parts_are_one_object_and_others_are_not() -> None:
    one, other, third = guest("a"), guest("b"), guest("c", "128Mi", "b", more=", max: 2")
    for name in ("cpu", "memory", "system_disk", "update_policy"):
        assert getattr(one.spec, name) is getattr(other.spec, name), name
    assert one.spec.disks[0] is other.spec.disks[0]
    assert one.spec.services[0] is other.spec.services[0]
    assert one.spec.disks is not other.spec.disks
    assert one.spec.cpu != third.spec.cpu
    assert one.spec.memory != third.spec.memory
    assert one.spec.services[0] != third.spec.services[0]


def test_what_no_document_says_any_more_is_let_go() -> None:
    first = weakref.ref(guest("a", content="first").spec.services[0])
    guest("a", content="second")
    gc.collect()
    assert first() is None


def test_a_shared_document_says_what_was_written() -> None:
    guest("a")
    for words in (("b", "64Mi", "b"), ("c", "128Mi", "a"), ("a",)):
        alone = GuestDocument.model_validate(yaml.safe_load(text(*words)))
        assert guest(*words) == alone
