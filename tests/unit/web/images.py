"""Images on hosts as lists of views, which tests change as builds would."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from controller.images.progress import ImageProgress, Phase
from controller.observed.image import ImageState, ImageView
from tests import factories as make

TAIL = "Installing: kernel\nerror: cannot find package ngnix\nthe installer gives up"


def a_view(state: ImageState = ImageState.MISSING, **fields: object) -> ImageView:
    """Of the image rocky9, on the host's default pool."""
    return replace(ImageView("rocky9", "local", "default", state), **fields)  # type: ignore[arg-type]


def ready() -> ImageView:
    base = "gk-base-rocky9-0123456789ab-01234567.qcow2"
    return a_view(ImageState.READY, base=base, capacity=10 * 2**30)


def stalled() -> ImageView:
    message = "the installer reported a failure: no package ngnix"
    return a_view(
        ImageState.FAILED, message=message, reason="InstallFailed", stalled=True, log_tail=TAIL
    )


def unreachable_tree(retry_at: float) -> ImageView:
    """A failure that no attempt of an installer was spent on."""
    message = "the tree http://127.0.0.1/os gave no answer"
    return a_view(ImageState.FAILED, message=message, reason="DownloadFailed", retry_at=retry_at)


@dataclass
class FakeImages:
    """Satisfies ``web.application.Images``. ``on_build`` decides what comes of a build by hand."""

    stand: list[ImageView] = field(default_factory=lambda: [make.a_ready_image()])
    ongoing: list[ImageProgress] = field(default_factory=list)
    since: float = 0.0
    asked: list[tuple[str, str | None, str | None, bool]] = field(default_factory=list)
    on_build: Callable[[], object] = lambda: None
    blocks: Sequence[bytes] = ()
    more: Callable[[], bytes | None] = lambda: None

    def views(self, name: str | None = None) -> list[ImageView]:
        return [view for view in self.stand if name in (None, view.name)]

    def progress(self) -> list[ImageProgress]:
        return self.ongoing

    def build(
        self, name: str, host: str | None, pool: str | None, *, refresh: bool
    ) -> list[ImageView]:
        self.asked.append((name, host, pool, refresh))
        self.on_build()
        return self.views(name)

    def retry(self, name: str) -> list[ImageView] | None:
        failed = [view for view in self.views(name) if view.state is ImageState.FAILED]
        if not failed:
            return None
        self.installing()
        return self.views(name)

    def log(self, name: str, *, follow: bool) -> Iterator[bytes]:
        yield from self.blocks
        while follow and (block := self.more()) is not None:
            yield block

    def shows(self, *views: ImageView) -> None:
        """The image rocky9 stands so from now on."""
        self.ongoing = []
        self.stand = [view for view in self.stand if view.name != "rocky9"] + list(views)

    def works(self, phase: Phase, done: int, total: int | None, detail: str = "") -> None:
        """It is being made, and so far."""
        now = ImageProgress("rocky9", "local", "default", phase, done, total, self.since, detail)
        self.shows(a_view(ImageState.PREPARING, message=now.message))
        self.ongoing = [now]

    def installing(self, attempt: int = 1) -> None:
        self.works(Phase.INSTALLING, 0, None, f"attempt {attempt} of 2: packages")
