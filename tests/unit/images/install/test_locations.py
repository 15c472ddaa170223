"""Where an installer comes from: trees, ISOs and files, each checked, each known again for free."""

import functools
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from controller.desired.effective import EffectiveImage, InstallKind
from controller.errors import GuestkeeperError, TransientError
from controller.images.fetch.http import Pace
from controller.images.install.installer_source import UNREAD, Installer, Locations
from controller.images.progress import Phase
from tests.factories import an_install_image
from tests.unit.images.builders import Builders

KERNEL, INITRD = b"kernel" * 100, b"initrd" * 1000
REDHAT = {"images/pxeboot/vmlinuz": KERNEL, "images/pxeboot/initrd.img": INITRD}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def treeinfo(files: dict[str, bytes]) -> str:
    kernel, initrd = files
    sums = "".join(f"{path} = sha256:{sha256(content)}\n" for path, content in files.items())
    return (
        "[checksums]\n" + sums + "\n[general]\narch = x86_64\nfamily = Rocky Linux\n\n"
        f"[images-x86_64]\ninitrd = {initrd}\nkernel = {kernel}\n"
    )


@dataclass
class Web:
    """A directory that is served, and what was asked of it."""

    root: Path
    url: str
    asked: list[str]

    def put(self, name: str, content: bytes | str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def tree(self, files: dict[str, bytes]) -> None:
        self.put(".treeinfo", treeinfo(files))
        for name, content in files.items():
            self.put(name, content)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    root = tmp_path / "web"
    root.mkdir()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield Web(root, f"http://127.0.0.1:{server.server_address[1]}", asked)
    server.shutdown()
    server.server_close()
    thread.join(60)


Make = Callable[[], Locations]


@pytest.fixture
def host() -> Builders:
    return Builders()


@pytest.fixture
def make(tmp_path: Path, host: Builders) -> Make:
    """Locations as a daemon that starts makes them, over the same cache."""
    (tmp_path / "images").mkdir()
    return lambda: Locations(
        host,
        tmp_path / "images",
        tmp_path / "cache",
        stop=threading.Event(),
        check_stop=lambda: None,
        pace=Pace(stall_timeout=5, tries=2, backoff=0.01, max_backoff=0.01),
    )


def ignore(phase: Phase, done: int, total: int | None, detail: str = "") -> None:
    """Progress that nobody looks at."""


def at(**location: Any) -> EffectiveImage:
    return an_install_image(kickstart={"location": location})


def obtain(locations: Locations, image: EffectiveImage) -> Installer:
    return locations.obtain("local", "default", image, ignore)


def known(locations: Locations, image: EffectiveImage) -> str | None:
    return locations.known("local", "default", image)


def refused(locations: Locations, image: EffectiveImage) -> GuestkeeperError:
    with pytest.raises(GuestkeeperError) as caught:
        obtain(locations, image)
    return caught.value


def test_a_tree_names_its_kernel_and_initrd_which_are_fetched_and_checked(
    web: Web, make: Make
) -> None:
    web.tree(REDHAT)
    image = at(tree=f"{web.url}/")
    assert known(make(), image) is None
    got = obtain(make(), image)
    assert got.kernel.read_bytes() == KERNEL
    assert got.initrd.read_bytes() == INITRD
    assert known(make(), image) == got.key, "also a daemon started anew knows it"


def test_a_tree_that_is_known_is_not_asked_again_when_its_mirror_moves_on(
    web: Web, make: Make
) -> None:
    web.tree(REDHAT)
    image = at(tree=web.url)
    first = obtain(make(), image)
    web.tree({name: content + b"newer" for name, content in REDHAT.items()})
    asked = len(web.asked)
    assert obtain(make(), image) == first
    assert len(web.asked) == asked
    locations = make()
    locations.refresh(image)
    assert known(locations, image) == first.key, "until it was asked"
    second = obtain(locations, image)
    assert second.key != first.key
    assert known(make(), image) == second.key
    asked = len(web.asked)
    assert obtain(locations, image) == second
    assert len(web.asked) == asked, "it was asked once"


def test_a_tree_whose_files_are_gone_is_asked_anew(web: Web, make: Make, tmp_path: Path) -> None:
    web.tree(REDHAT)
    image = at(tree=web.url)
    first = obtain(make(), image)
    for path in (tmp_path / "cache/downloads").iterdir():
        path.unlink()
    web.tree({name: content + b"newer" for name, content in REDHAT.items()})
    second = obtain(make(), image)
    assert second.key != first.key
    assert second.kernel.read_bytes() == KERNEL + b"newer"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "no section headers"),
        ("[general]\narch = x86_64\n", "lacks a section or an entry"),
        (treeinfo(REDHAT).replace("sha256:", "md5:"), "no sha256"),
        (treeinfo({"../vmlinuz": KERNEL, "initrd.img": INITRD}), "leads out"),
    ],
)
def test_a_tree_that_does_not_say_what_is_needed_is_refused(
    web: Web, make: Make, text: str, says: str
) -> None:
    web.put(".treeinfo", text)
    error = refused(make(), at(tree=web.url))
    assert error.reason == "TreeUnusable"
    assert says in str(error)
    assert "correct location.tree" in str(error)
    assert not any(word in str(error) for word in ("nonsense", "md5", "../vmlinuz", "x86_64"))


def test_a_tree_that_is_not_there_is_refused_by_its_address(web: Web, make: Make) -> None:
    error = refused(make(), at(tree=f"{web.url}/nothing"))
    assert error.reason == "DownloadRefused"
    assert "/nothing/.treeinfo" in str(error) and "404" in str(error)


def test_a_tree_that_nobody_serves_is_tried_again_later(make: Make) -> None:
    error = refused(make(), at(tree="http://127.0.0.1:9/tree"))
    assert isinstance(error, TransientError)


def test_a_kernel_that_is_not_what_its_tree_says_is_refused(web: Web, make: Make) -> None:
    web.tree(REDHAT)
    web.put("images/pxeboot/vmlinuz", b"forged")
    assert refused(make(), at(tree=web.url)).reason == "ChecksumMismatch"


def test_debians_installer_is_found_by_its_sums(web: Web, make: Make) -> None:
    folder = "netboot/debian-installer/amd64"
    web.put(f"{folder}/linux", KERNEL)
    web.put(f"{folder}/initrd.gz", INITRD)
    web.put(
        "SHA256SUMS",
        f"{sha256(KERNEL)}  ./{folder}/linux\n{sha256(INITRD)}  ./{folder}/initrd.gz\n",
    )
    got = obtain(make(), of_kind(at(tree=web.url), InstallKind.PRESEED))
    assert got.kernel.read_bytes() == KERNEL


def of_kind(image: EffectiveImage, kind: InstallKind) -> EffectiveImage:
    assert image.install is not None
    return replace(image, install=replace(image.install, kind=kind))


def test_files_of_the_images_directory_are_read_once(make: Make, tmp_path: Path) -> None:
    image = at(kernel="k", initrd="i", repo="http://127.0.0.1/")
    assert known(make(), image) is None, "nothing is there"
    (tmp_path / "images/k").write_bytes(KERNEL)
    (tmp_path / "images/i").write_bytes(INITRD)
    assert known(make(), image) == UNREAD
    got = obtain(make(), image)
    assert got.kernel == tmp_path / "images/k"
    assert known(make(), image) == got.key


def test_a_file_that_is_not_what_the_document_says_is_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "images/k").write_bytes(KERNEL)
    (tmp_path / "images/i").write_bytes(INITRD)
    error = refused(make(), at(kernel="k", kernelSha256=sha256(b"other"), initrd="i"))
    assert error.reason == "ChecksumMismatch"
    assert "image file k" in str(error)


def test_addresses_with_their_sums_are_fetched(web: Web, make: Make) -> None:
    web.put("k", KERNEL)
    web.put("i", INITRD)
    image = at(
        kernel=f"{web.url}/k",
        kernelSha256=sha256(KERNEL),
        initrd=f"{web.url}/i",
        initrdSha256=sha256(INITRD),
    )
    before = known(make(), image)
    assert obtain(make(), image).key == before, "known without fetching"


def an_iso(files: dict[str, bytes], *, rock_ridge: bool = True) -> bytes:
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09" if rock_ridge else None, vol_ident="Rocky-9")
    made: set[str] = set()
    for name, content in files.items():
        *folders, _ = name.split("/")
        for depth in range(1, len(folders) + 1):
            folder = "/".join(folders[:depth])
            if folder not in made:
                iso.add_directory(
                    f"/{folder.upper()}", rr_name=folders[depth - 1] if rock_ridge else None
                )
                made.add(folder)
        plain = name.upper() if "." in name else f"{name.upper()}."
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            f"/{plain};1",
            rr_name=name.rpartition("/")[2] if rock_ridge else None,
        )
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()


@pytest.mark.parametrize("rock_ridge", [True, False])
def test_an_iso_in_a_pool_gives_its_installer_without_being_copied(
    make: Make, host: Builders, rock_ridge: bool
) -> None:
    padding = {"PACKAGES.BIN": b"x" * (64 << 20)}
    host.contents["rocky.iso"] = an_iso({**REDHAT, **padding}, rock_ridge=rock_ridge)
    image = at(iso={"volume": "rocky.iso"})
    got = obtain(make(), image)
    assert got.kernel.read_bytes() == KERNEL
    assert got.initrd.read_bytes() == INITRD
    assert known(make(), image) == got.key
    read = [call for call in host.calls if call.startswith("read")]
    assert 0 < len(read) < 12, "of 64 mebibytes only a few were read"
    host.calls.clear()
    obtain(make(), image)
    assert not [call for call in host.calls if call.startswith("read")]


def test_an_iso_that_is_missing_or_none_is_refused(make: Make, host: Builders) -> None:
    image = at(iso={"volume": "rocky.iso"})
    assert known(make(), image) is None
    assert refused(make(), image).reason == "IsoMissing"
    host.contents["rocky.iso"] = b"no iso" * 10000
    assert refused(make(), image).reason == "IsoUnusable"
    host.contents["rocky.iso"] = an_iso({"README.TXT": b"hello"})
    error = refused(make(), image)
    assert error.reason == "IsoUnusable"
    assert "images/pxeboot/vmlinuz" in str(error)
