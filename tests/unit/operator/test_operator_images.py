"""Where images are, and what is built when an operator asks; over images that only remember."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest

from controller.desired.catalog.snapshot import Snapshot
from controller.desired.effective import EffectiveGuest, EffectiveImage
from controller.errors import HostUnreachableError, PermanentError
from controller.images.progress import ImageProgress, Phase
from controller.observed.host import HostView, PoolView
from controller.observed.image import ImageState, ImageView
from controller.operator.answers import RefusedError
from controller.operator.images import ImageRequests, Place
from tests import factories as make

ROCKY = make.an_install_image("rocky9")
DEBIAN = make.an_image("debian12")


class Remembering:
    """The part of ``images.Images`` that the requests uses: states by image and place."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, Place], ImageView] = {}
        self.silent: set[str] = set()
        self.ongoing: tuple[ImageProgress, ...] = ()

    def view(self, host: str, pool: str, image: EffectiveImage) -> ImageView:
        if host in self.silent:
            raise HostUnreachableError(f"{host} gives no answer")
        missing = ImageView(image.name, host, pool, ImageState.MISSING)
        return self.states.get((image.name, Place(host, pool)), missing)

    def stands(self, image: EffectiveImage, place: Place, state: ImageState, **more: Any) -> None:
        view = ImageView(image.name, place.host, place.pool, state)
        self.states[image.name, place] = replace(view, **more)

    def progress(self) -> tuple[ImageProgress, ...]:
        return self.ongoing

    def build(self, host: str, pool: str, image: EffectiveImage, *, refresh: bool) -> ImageView:
        if not self.view(host, pool, image).stalled:
            message = "asked anew" if refresh else "begun"
            self.stands(image, Place(host, pool), ImageState.PREPARING, message=message)
        return self.view(host, pool, image)

    def retry(self, image: EffectiveImage, hosts: Collection[str]) -> bool:
        failed = [
            key
            for key, view in self.states.items()
            if key[0] == image.name and key[1].host in hosts and view.state is ImageState.FAILED
        ]
        for key in failed:
            del self.states[key]
        return bool(failed)

    def build_log(self, image: str, limit: int, *, follow: bool) -> Iterator[bytes]:
        yield f"{image} {follow}".encode()


class Desk:
    """A requests with what it looks at."""

    def __init__(self, *guests: EffectiveGuest) -> None:
        self.images = Remembering()
        self.hosts = [self.host("local"), self.host("far")]
        self.snapshot = Snapshot(
            guests={guest.name: guest for guest in guests},
            images={"rocky9": ROCKY, "debian12": DEBIAN},
        )
        self.requests = ImageRequests(self.images, lambda: self.snapshot, lambda: self.hosts)  # type: ignore[arg-type]

    @staticmethod
    def host(name: str, **fields: Any) -> HostView:
        pools = {one: PoolView(one, f"/{one}", True, 1, 1) for one in ("default", "fast")}
        return make.a_host(name=name, default_pool="default", pools=pools, **fields)

    def seen(self, name: str | None = None) -> list[tuple[str, str, str, str]]:
        return [
            (view.name, view.host, view.pool, str(view.state)) for view in self.requests.views(name)
        ]

    def built(self, *, host: str | None = None, pool: str | None = None) -> list[tuple[str, str]]:
        views = self.requests.build("rocky9", host, pool, refresh=False)
        return [(view.host, view.pool) for view in views]


def of_rocky(name: str = "web1", **fields: Any) -> EffectiveGuest:
    return make.a_guest(name, image=ROCKY, **fields)


ON_FAST = {"systemDisk": {"size": "2Gi", "pool": "fast"}}


# --- Where images are -----------------------------------------------------------------------------


def test_an_image_is_shown_where_system_disks_of_guests_want_it() -> None:
    requests = Desk(of_rocky(), of_rocky("web2", **ON_FAST), of_rocky("web3"), make.a_guest("db1"))
    assert requests.seen() == [
        ("debian12", "local", "default", "Missing"),
        ("rocky9", "local", "default", "Missing"),
        ("rocky9", "local", "fast", "Missing"),
    ]
    assert requests.seen("debian12") == [("debian12", "local", "default", "Missing")]


def test_an_image_of_a_host_without_an_answer_is_left_out() -> None:
    requests = Desk(of_rocky())
    requests.images.silent.add("local")
    assert requests.seen() == []


def test_an_installed_image_that_no_guest_uses_is_shown_where_it_is() -> None:
    requests = Desk()
    assert requests.seen() == []
    requests.images.stands(ROCKY, Place("far", "default"), ImageState.READY)
    requests.images.stands(DEBIAN, Place("far", "default"), ImageState.READY)
    assert requests.seen() == [("rocky9", "far", "default", "Ready")]


def test_what_was_built_by_hand_is_shown_where_it_was_asked_for() -> None:
    requests = Desk()
    assert requests.built(host="far", pool="fast") == [("far", "fast")]
    assert requests.seen() == [("rocky9", "far", "fast", "Preparing")]
    requests.images.stands(ROCKY, Place("far", "fast"), ImageState.READY)
    assert requests.seen("rocky9") == [("rocky9", "far", "fast", "Ready")]
    requests.snapshot = Snapshot()
    assert requests.seen() == []


def test_a_build_that_an_earlier_daemon_began_is_shown() -> None:
    requests = Desk()
    place = Place("far", "fast")
    requests.images.stands(ROCKY, place, ImageState.PREPARING)
    requests.images.ongoing = (
        ImageProgress("rocky9", "far", "fast", Phase.INSTALLING, 0, None, make.NOW),
    )
    assert requests.seen() == [("rocky9", "far", "fast", "Preparing")]


# --- Where images are built -----------------------------------------------------------------------


def test_an_image_is_built_where_its_guests_want_it() -> None:
    requests = Desk(of_rocky(), of_rocky("web2", host="far", **ON_FAST))
    assert requests.built() == [("far", "fast"), ("local", "default")]
    assert requests.built(host="far") == [("far", "fast")]
    assert requests.built(pool="fast") == [("far", "fast"), ("local", "fast")]


def test_an_image_that_no_guest_uses_is_built_on_the_first_host() -> None:
    requests = Desk()
    assert requests.built() == [("local", "default")]
    assert requests.built(host="far") == [("far", "default")]


@pytest.mark.parametrize(
    ("host", "pool", "told"),
    [
        ("loca", None, "no host is named `loca`; did you mean `local`?"),
        (None, "slow", "host local has no pool `slow`; it has default, fast"),
    ],
)
def test_a_place_that_there_is_not_is_refused(host: str, pool: str, told: str) -> None:
    requests = Desk()
    with pytest.raises(RefusedError) as refused:
        requests.built(host=host, pool=pool)
    assert str(refused.value) == told
    assert requests.seen() == []


def test_a_tree_is_asked_anew_where_that_is_wanted() -> None:
    (view,) = Desk().requests.build("rocky9", None, None, refresh=True)
    assert view.message == "asked anew"


def test_a_document_that_vanished_meanwhile_is_told() -> None:
    with pytest.raises(PermanentError, match="no image is named `rocky8` any more"):
        Desk().requests.build("rocky8", None, None, refresh=False)


# --- Retrying -------------------------------------------------------------------------------------


def test_what_failed_is_built_anew_in_each_place() -> None:
    requests = Desk(of_rocky())
    requests.images.stands(ROCKY, Place("local", "default"), ImageState.FAILED, stalled=True)
    requests.images.stands(ROCKY, Place("far", "default"), ImageState.READY)
    assert requests.requests.retry("rocky9") is not None
    assert requests.seen() == [("rocky9", "local", "default", "Preparing")]


def test_where_nothing_failed_nothing_is_built() -> None:
    requests = Desk(of_rocky())
    assert requests.requests.retry("rocky9") is None
    assert requests.seen() == [("rocky9", "local", "default", "Missing")]


def test_that_nothing_failed_is_not_said_of_a_host_without_an_answer() -> None:
    requests = Desk()
    requests.hosts = [requests.host("local"), requests.host("far", reachable=False, why="no route")]
    with pytest.raises(HostUnreachableError, match=r"on host far cannot be known.*no route"):
        requests.requests.retry("rocky9")


def test_a_ready_disk_needs_no_retry() -> None:
    with pytest.raises(PermanentError, match="is tried again by itself"):
        Desk().requests.retry("debian12")
