"""An install is what its documents, template and snippets say, and changes when they do."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.desired.answers.ksvalidator import Ksvalidator, find_program
from controller.desired.answers.shipped import shipped_directory
from controller.desired.catalog.catalog import Catalog, load_paths
from controller.desired.catalog.loader import Loader
from controller.desired.effective import AUTHORIZED_KEYS_BASE64, ROOT_PASSWORD_HASH, InstallKind
from controller.desired.schema.image import Delivery
from controller.desired.schema.model import Firmware
from tests.unit.desired.installs import END, TREE, document, image_of, install_of, kickstart
from tests.unit.desired.support import (
    SHIPPED,
    catalog,
    copy_into,
    empty,
    guest,
    image,
    make_directory,
    put,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_directory(tmp_path / "desired")


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A copy of the templates, to be edited."""
    directory = make_directory(tmp_path / "shipped")
    copy_into(SHIPPED, directory)
    return directory


# --- What it becomes ------------------------------------------------------------------------------


def test_a_kickstart_is_rendered_with_values_and_placeholders(root: Path) -> None:
    text = kickstart(
        values={"timezone": "America/Sao_Paulo", "packages": ["chrony"]},
        rootPasswordHashFrom={"file": "/etc/root.hash"},
        sshAuthorizedKeysFrom=[{"file": "/etc/admin.pub"}, {"credential": "ops"}],
        spec={"disk": {"size": "12Gi"}, "builder": {"firmware": "efi"}},
    )
    put(root / "web.yaml", text)
    install = install_of(catalog(root).scan().snapshot)
    assert (install.kind, install.delivery) == (InstallKind.KICKSTART, Delivery.INITRD)
    assert (install.disk_size, install.firmware) == (12 * 2**30, Firmware.EFI)
    assert install.location.tree == TREE
    assert [ref.file or ref.credential for ref in install.ssh_authorized_keys_from] == [
        "/etc/admin.pub",
        "ops",
    ]
    for line in (
        "timezone America/Sao_Paulo",
        f"url --url={TREE}",
        f"rootpw --iscrypted {ROOT_PASSWORD_HASH}",
        "chrony",
        f"echo {AUTHORIZED_KEYS_BASE64} | base64 -d >/root/.ssh/authorized_keys",
    ):
        assert line in install.answer.splitlines()


def test_without_secrets_there_are_no_placeholders(root: Path) -> None:
    put(root / "web.yaml", kickstart())
    install = install_of(catalog(root).scan().snapshot)
    assert "@guestkeeper:" not in install.answer
    assert (install.root_password_hash_from, install.ssh_authorized_keys_from) == (None, ())


@pytest.mark.parametrize("kind", ["preseed", "autoinstall"])
def test_the_other_kinds_have_one_way_of_delivery(root: Path, kind: str) -> None:
    location = {"iso": {"pool": "isos", "volume": "installer.iso"}}
    source = {kind: {"template": f"minimal.{kind}.j2", "location": location}}
    put(root / "web.yaml", document("os", "debian", source))
    install = install_of(catalog(root).scan().snapshot, "os")
    assert (install.kind, install.delivery) == (InstallKind(kind), None)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("image.name", "rocky9"),
        ("image.osFamily", "rhel"),
        ("install.kind", "kickstart"),
        ("install.version", "RHEL9"),
        ("install.repo", TREE),
        ("install.firmware", "bios"),
        ("root_password_hash", ""),
        ("authorized_keys_base64", ""),
        ("values | length", "0"),
    ],
)
def test_a_template_has_the_variables_of_the_contract(root: Path, variable: str, text: str) -> None:
    put(root / "mine.ks.j2", f"# it is <{{{{ {variable} }}}}>\n{END}")
    put(root / "web.yaml", kickstart(template="mine.ks.j2"))
    assert f"# it is <{text}>\n" in install_of(catalog(root).scan().snapshot).answer


def test_an_iso_has_no_repo_and_a_kernel_has_the_one_beside_it(root: Path) -> None:
    put(root / "mine.ks.j2", f"# <{{{{ install.repo }}}}>\n{END}")
    files = {"kernel": "vmlinuz", "initrd": "initrd.img"}
    for location, repo in (
        ({"iso": {"volume": "rocky9.iso"}}, ""),
        (files, ""),
        ({**files, "repo": TREE}, TREE),
    ):
        put(root / "web.yaml", kickstart(template="mine.ks.j2", location=location))
        assert f"# <{repo}>\n" in install_of(catalog(root).scan().snapshot).answer


def test_every_template_that_comes_with_guestkeeper_loads_as_it_is(root: Path) -> None:
    """Only that they load; what they say is tested where they are."""
    for path in shipped_directory().glob("*.j2"):
        name, kind = path.name.split(".")[:2]
        source: dict[str, Any] = {"template": path.name, "location": {"iso": {"volume": "a.iso"}}}
        if kind == "ks":
            source["version"] = "F42" if name.startswith("fedora") else name.split("-")[0].upper()
        key = {"ks": "kickstart"}.get(kind, kind)
        family = "rhel" if kind == "ks" else "debian"
        put(root / f"{name}.yaml", document(name, family, {key: source}))
    snapshot = catalog(root, shipped=shipped_directory()).scan().snapshot
    assert [str(problem) for problem in snapshot.problems] == []


# --- What changes it ------------------------------------------------------------------------------


def content(root: Path, text: str) -> str:
    put(root / "web.yaml", text)
    return image_of(catalog(root).scan().snapshot).content


@pytest.mark.parametrize(
    "spec",
    [
        {"builder": {"vcpus": 4, "memory": "8Gi", "accelerator": "tcg", "network": "default"}},
        {"timeout": "1h"},
        {"stallTimeout": "20m"},
        {"retries": 3},
        {"keepFailedBuilder": True},
        {"disk": {"size": "10Gi"}},
    ],
)
def test_how_it_is_built_changes_nothing_of_what_is_built(root: Path, spec: dict[str, Any]) -> None:
    assert content(root, kickstart(spec=spec)) == content(root, kickstart())


@pytest.mark.parametrize(
    "fields",
    [
        {"spec": {"disk": {"size": "11Gi"}}},
        {"spec": {"builder": {"firmware": "efi"}}},
        {"spec": {"cloudInit": True}},
        {"version": "RHEL10"},
        {"delivery": "oemdrv"},
        {"values": {"timezone": "Europe/Berlin"}},
        {"location": {"tree": "https://mirror.example.org/9.5/os/"}},
        {"location": {"tree": TREE, "args": "debug"}},
        {"rootPasswordHashFrom": {"file": "/etc/root.hash"}},
        {"sshAuthorizedKeysFrom": [{"file": "/etc/admin.pub"}]},
    ],
)
def test_what_the_disk_is_made_of_changes_its_content(root: Path, fields: dict[str, Any]) -> None:
    assert content(root, kickstart(**fields)) != content(root, kickstart())


def test_a_secret_from_elsewhere_is_other_content(root: Path) -> None:
    first, second = (
        content(root, kickstart(rootPasswordHashFrom={"file": f"/etc/{name}.hash"}))
        for name in ("a", "b")
    )
    assert first != second


def test_a_login_in_an_address_is_no_content(root: Path) -> None:
    def of(host: str) -> str:
        sums = {"kernelSha256": "a" * 64, "initrdSha256": "b" * 64}
        files = {"kernel": f"https://{host}/vmlinuz", "initrd": f"https://{host}/initrd"}
        return content(root, kickstart(location={**files, **sums}))

    assert of("me:geheim@example.org") == of("example.org")
    assert of("me:geheim@example.org") != of("example.com")


def test_the_digest_tells_every_change_and_a_default_written_out_is_none(root: Path) -> None:
    def digest(text: str) -> str:
        put(root / "web.yaml", text)
        return image_of(catalog(root).scan().snapshot).digest

    plain = digest(kickstart())
    assert digest(kickstart(delivery="initrd", spec={"retries": 1})) == plain
    assert digest(kickstart(spec={"retries": 2})) != plain
    assert digest(kickstart(values={"packages": ["vim"]})) != plain


def test_a_guest_changes_with_the_content_of_its_image_and_not_with_its_builder(root: Path) -> None:
    put(root / "guest.yaml", guest(image="rocky9"))
    put(root / "web.yaml", kickstart())
    subject = catalog(root)
    subject.scan()
    put(root / "web.yaml", kickstart(spec={"retries": 3}))
    result = subject.scan()
    assert (result.changed, result.images_changed) == (frozenset(), {"rocky9"})
    put(root / "web.yaml", kickstart(values={"packages": ["vim"]}))
    result = subject.scan()
    assert (result.changed, result.images_changed) == ({"web1"}, {"rocky9"})


@pytest.mark.parametrize("edited", ["minimal.ks.j2", "snippets/ks-success.ks.j2"])
def test_an_edited_shipped_template_or_snippet_renders_again(
    root: Path, shipped: Path, edited: str
) -> None:
    put(root / "web.yaml", kickstart())
    subject = catalog(root, shipped=shipped)
    before = image_of(subject.scan().snapshot)
    assert not subject.scan().anything
    put(shipped / edited, (shipped / edited).read_text() + "# edited\n")
    result = subject.scan()
    assert result.images_changed == {"rocky9"}
    assert image_of(result.snapshot).content != before.content
    assert install_of(result.snapshot).answer.count("# edited") == 1


def test_a_snippet_put_beside_the_document_replaces_the_shipped_one_until_it_goes(
    root: Path,
) -> None:
    put(root / "web.yaml", kickstart())
    subject = catalog(root)
    before = image_of(subject.scan().snapshot)
    own = "%post\n# mine\necho success >/dev/virtio-ports/org.guestkeeper.build.0\n%end\n"
    put(root / "snippets" / "ks-success.ks.j2", own)
    result = subject.scan()
    assert result.images_changed == {"rocky9"}
    assert "# mine" in install_of(result.snapshot).answer
    (root / "snippets" / "ks-success.ks.j2").unlink()
    assert image_of(subject.scan().snapshot) == before


def test_a_template_of_the_same_text_elsewhere_is_the_same_content(root: Path) -> None:
    first = content(root, kickstart())
    put(root / "deep" / "mine.ks.j2", (SHIPPED / "minimal.ks.j2").read_text())
    assert content(root, kickstart(template="deep/mine.ks.j2")) == first


@given(
    st.permutations(["rocky9", "rocky10", "debian", "guest"]),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.sampled_from(["", "team/", "a/b/"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_same_documents_in_any_layout_give_the_same_content(
    root: Path, order: list[str], joints: list[bool], folder: str
) -> None:
    texts = {
        "rocky9": kickstart(values={"packages": ["b", "a"], "timezone": "Etc/UTC"}),
        "rocky10": kickstart("rocky10", version="RHEL10", spec={"disk": {"size": "20Gi"}}),
        "debian": image(),
        "guest": guest(image="rocky9"),
    }
    empty(root)
    files = [texts[order[0]]]
    for name, joined in zip(order[1:], joints, strict=True):
        if joined:
            files[-1] += f"---\n{texts[name]}"
        else:
            files.append(texts[name])
    for number, text in enumerate(files):
        put(root / f"{folder}{number}.yaml", text)
    snapshot = catalog(root).scan().snapshot
    # Written out: they may not depend on anything but the documents and templates.
    assert image_of(snapshot).content == CONTENT
    assert image_of(snapshot, "rocky10").content == OTHER_CONTENT
    assert snapshot.guests["web1"].image is snapshot.images["rocky9"]


CONTENT = "61010be5076ca3e49a7a0497839fa9d6a7dde569684413318f4e568fbc16e5a2"
OTHER_CONTENT = "6fe2f577c0a2661463a65c0dd7ee88d1bf22b304b786e353760ccac00a87edf9"


# --- When it is wrong -----------------------------------------------------------------------------


def test_a_broken_template_keeps_the_last_good_image_and_its_guests(root: Path) -> None:
    put(root / "mine.ks.j2", END)
    put(root / "web.yaml", kickstart(template="mine.ks.j2") + "---\n" + guest(image="rocky9"))
    subject = catalog(root)
    good = subject.scan().snapshot
    put(root / "mine.ks.j2", f"foobar\n{END}")
    result = subject.scan()
    assert (result.snapshot.guests, result.snapshot.images) == (good.guests, good.images)
    (problem,) = result.snapshot.document_problems("web1")
    assert problem.field == "spec.source.kickstart.template"
    assert result.changed == {"web1"}
    put(root / "mine.ks.j2", END)
    assert subject.scan().snapshot.problems == ()


def test_a_snippet_that_went_keeps_the_last_good_image(root: Path, shipped: Path) -> None:
    put(root / "web.yaml", kickstart())
    subject = catalog(root, shipped=shipped)
    good = subject.scan().snapshot.images
    (shipped / "snippets" / "ks-success.ks.j2").unlink()
    snapshot = subject.scan().snapshot
    assert snapshot.images == good
    assert "there is no snippets/ks-success.ks.j2" in snapshot.problems[0].message


def test_a_template_that_others_could_write_is_refused(root: Path) -> None:
    put(root / "mine.ks.j2", END, 0o666)
    put(root / "web.yaml", kickstart(template="mine.ks.j2"))
    (problem,) = catalog(root).scan().snapshot.problems
    assert "mine.ks.j2 can be written by everybody" in problem.message


def test_a_validator_that_was_missing_is_asked_again_though_nothing_changed(root: Path) -> None:
    there = False
    validator = Ksvalidator(lambda: find_program() if there else None)
    subject = Catalog(root, None, loaders=[Loader(root, shipped=SHIPPED, validator=validator)])
    put(root / "web.yaml", kickstart())
    (problem,) = subject.scan().snapshot.problems
    assert "pip install pykickstart" in problem.message
    assert not subject.scan().anything, "the same trouble twice is no news"
    there = True
    result = subject.scan()
    assert result.images_changed == {"rocky9"}
    assert result.snapshot.problems == ()


def test_what_holds_a_secret_is_never_quoted(root: Path) -> None:
    line = "rootpw --plaintext geheim more-geheim --oops=geheim"
    put(root / "mine.ks.j2", f"{line}\n{END}")
    put(root / "web.yaml", kickstart(template="mine.ks.j2"))
    put(root / "other.yaml", kickstart("other", rootPasswordHashFrom="geheim"))
    problems = catalog(root).scan().snapshot.problems
    assert len(problems) == 2
    assert not any("geheim" in str(problem) for problem in problems)


def test_a_value_that_only_a_snippet_reads_is_read(root: Path) -> None:
    put(root / "mine.ks.j2", '{% include "snippets/more.j2" %}\n' + END)
    put(root / "snippets" / "more.j2", "# {{ values.note }}\n")
    put(root / "web.yaml", kickstart(template="mine.ks.j2", values={"note": "hello"}))
    assert "# hello" in install_of(catalog(root).scan().snapshot).answer


def test_many_problems_of_one_template_are_cut(root: Path) -> None:
    put(root / "mine.ks.j2", "".join(f"foobar{number}\n" for number in range(30)) + END)
    put(root / "web.yaml", kickstart(template="mine.ks.j2"))
    problems = catalog(root).scan().snapshot.problems
    assert len(problems) == 21
    assert any("10 more problems" in problem.message for problem in problems)


# --- Guests of installed images -------------------------------------------------------------------


@pytest.mark.parametrize("size", ["", "12Gi", "1Ti"])
def test_a_guests_disk_may_be_as_large_as_the_installed_one_or_larger(
    root: Path, size: str
) -> None:
    put(root / "web.yaml", kickstart(spec={"disk": {"size": "12Gi"}}))
    spec = f"  systemDisk: {{size: {size}}}\n" if size else ""
    put(root / "guest.yaml", guest(image="rocky9", spec=spec))
    assert set(catalog(root).scan().snapshot.guests) == {"web1"}


def test_a_guest_has_the_firmware_of_its_image(root: Path) -> None:
    put(root / "web.yaml", kickstart(spec={"builder": {"firmware": "efi"}}))
    put(root / "guest.yaml", guest(image="rocky9", spec="  firmware: efi\n"))
    snapshot = catalog(root).scan().snapshot
    assert (snapshot.problems, set(snapshot.guests)) == ((), {"web1"})


def test_an_image_that_becomes_too_large_keeps_its_guest_as_it_was(root: Path) -> None:
    put(root / "web.yaml", kickstart())
    put(root / "guest.yaml", guest(image="rocky9", spec="  systemDisk: {size: 10Gi}\n"))
    subject = catalog(root)
    good = subject.scan().snapshot.guests
    put(root / "web.yaml", kickstart(spec={"disk": {"size": "20Gi"}}))
    snapshot = subject.scan().snapshot
    assert snapshot.guests == good
    (problem,) = snapshot.document_problems("web1")
    assert (problem.field, problem.line) == ("spec.systemDisk.size", 7)


def test_validate_reads_templates_beside_a_file_that_is_named_alone(root: Path) -> None:
    put(root / "team" / "mine.ks.j2", f"foobar\n{END}")
    put(root / "team" / "web.yaml", kickstart(template="mine.ks.j2"))
    for path in (root, root / "team" / "web.yaml"):
        (problem,) = load_paths([path], None).problems
        assert "mine.ks.j2 line 1: Unknown command: foobar" in problem.message
