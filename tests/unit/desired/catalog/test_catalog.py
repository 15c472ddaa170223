"""The catalog keeps what was good, resolves what is named, and believes no half-read directory."""

import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from controller.desired.catalog.catalog import Catalog, load_paths
from controller.desired.catalog.resolve import merge_values
from controller.errors import PermanentError
from tests.unit.desired.support import (
    BASE,
    DATA,
    catalog,
    copy_into,
    empty,
    guest,
    image,
    make_directory,
    messages,
    put,
    service,
    settle,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = make_directory(tmp_path / "desired")
    copy_into(BASE, root)
    return root


def test_resolves_a_guest_with_its_image_services_and_files(root: Path) -> None:
    snapshot = catalog(root).scan().snapshot
    web = snapshot.guests["web1"]
    (nginx,) = web.services
    assert web.image.spec.source.file == "debian12.qcow2"
    assert nginx.files[0].content == b"good morning from web1\n"
    assert (nginx.files[0].mode, nginx.unit) == (0o644, "nginx.service")
    assert str(web.origin) == "web.yaml:1"
    assert dict(snapshot.documents) == {"Guest": 2, "Image": 1, "Service": 1}
    assert (snapshot.invalid, snapshot.problems) == (0, ())


def test_the_example_gives_only_what_is_not_supported_yet() -> None:
    problems = load_paths([DATA / "valid" / "example" / "web.yaml"], ["local"]).problems
    assert {problem.message for problem in problems} == {"is not supported yet; remove it"}
    assert [problem.field for problem in problems] == [
        "spec.validate",
        "spec.remediation",
    ]


# --- What is a change -----------------------------------------------------------------------------


def test_an_unchanged_directory_changes_nothing(root: Path) -> None:
    subject = catalog(root)
    assert subject.scan().changed == {"web1", "db1"}
    again = subject.scan()
    assert (again.changed, again.images_changed, again.anything) == (frozenset(),) * 2 + (False,)


def test_moving_a_document_or_writing_a_default_out_is_no_change(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    (root / "web.yaml").rename(root / "moved.yaml")
    put(root / "db.yaml", (root / "db.yaml").read_text() + "  firmware: bios\n")
    result = subject.scan()
    assert result.changed == frozenset()
    assert str(result.snapshot.guests["web1"].origin) == "moved.yaml:1"


def test_a_changed_service_changes_the_guests_that_use_it(root: Path) -> None:
    subject = catalog(root)
    before = subject.scan().snapshot
    text = (root / "base.yaml").read_text()
    put(root / "base.yaml", text.replace("{{ guest.name }}", "the host {{ guest.name }}"))
    result = subject.scan()
    assert result.changed == {"web1"}
    old, new = before.guests["web1"].services[0], result.snapshot.guests["web1"].services[0]
    assert old.digest != new.digest


def test_a_changed_probe_changes_the_guest_but_not_what_applying_would_send(root: Path) -> None:
    subject = catalog(root)
    before = subject.scan().snapshot.guests["web1"]
    put(root / "base.yaml", (root / "base.yaml").read_text().replace("port: 80", "port: 81"))
    result = subject.scan()
    after = result.snapshot.guests["web1"]
    assert result.changed == {"web1"}
    assert before.services[0].digest == after.services[0].digest


def test_an_edited_source_renders_again(root: Path) -> None:
    put(root / "app.yaml", service(spec="  files: [{path: /etc/a, source: files/a.j2}]\n"))
    put(root / "files" / "a.j2", "{{ guest.name }} one\n")
    put(root / "app1.yaml", guest("app1", spec="  services: [{use: app}]\n"))
    subject = catalog(root)
    subject.scan()
    put(root / "files" / "a.j2", "{{ guest.name }} two\n")
    result = subject.scan()
    assert result.changed == {"app1"}
    assert result.snapshot.guests["app1"].services[0].files[0].content == b"app1 two\n"


def test_a_changed_image_is_told_with_its_guests(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    put(root / "base.yaml", (root / "base.yaml").read_text().replace("debian12.q", "debian12b.q"))
    result = subject.scan()
    assert result.images_changed == {"debian12"}
    assert result.changed == {"web1", "db1"}


def test_values_are_merged_at_every_depth_and_lists_replaced() -> None:
    base = {"a": {"x": 1, "y": 2}, "l": [1, 2], "k": 1}
    merged = merge_values(base, {"a": {"y": 3}, "l": [3], "n": None})
    assert merged == {"a": {"x": 1, "y": 3}, "l": [3], "k": 1, "n": None}
    assert base["a"] == {"x": 1, "y": 2}


# --- Last good ------------------------------------------------------------------------------------


def test_a_broken_document_keeps_its_last_good_even_in_another_file(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests["web1"]
    text = (root / "web.yaml").read_text()
    (root / "web.yaml").unlink()
    put(root / "moved.yaml", text.replace("512Mi", "512MB"))
    result = subject.scan()
    assert result.snapshot.guests["web1"] == good
    assert result.changed == {"web1"}
    assert [p.file for p in result.snapshot.document_problems("web1")] == ["moved.yaml"]


def test_a_file_that_cannot_be_parsed_keeps_all_its_documents(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot
    put(root / "base.yaml", "a: [")
    bad = subject.scan().snapshot
    assert (bad.guests, bad.images, bad.services) == (good.guests, good.images, good.services)
    assert bad.held == frozenset()
    assert [str(problem) for problem in bad.document_problems("web1")] == [
        str(problem) for problem in bad.problems
    ], "the guest's image and service stand in the broken file"


def test_a_new_guest_works_with_the_last_good_service(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    put(root / "base.yaml", (root / "base.yaml").read_text().replace("port: 80", "port: x"))
    put(root / "new.yaml", guest("new1", spec="  services: [{use: nginx}]\n"))
    snapshot = subject.scan().snapshot
    assert snapshot.guests["new1"].services[0].unit == "nginx.service"
    assert snapshot.document_problems("new1"), "and says that its service is broken"


def test_a_guest_never_good_is_absent_with_its_problem(root: Path) -> None:
    put(root / "new.yaml", guest("new1", image="nothing"))
    result = catalog(root).scan()
    assert "new1" not in result.snapshot.guests
    assert result.snapshot.document_problems("new1")
    assert "new1" in result.changed


def test_a_guest_recovers_when_what_it_names_appears(root: Path) -> None:
    put(root / "new.yaml", guest("new1", image="other"))
    subject = catalog(root)
    subject.scan()
    put(root / "other.yaml", image("other"))
    result = subject.scan()
    assert result.changed == {"new1"}
    assert result.snapshot.problems == ()


def test_a_host_that_the_settings_do_not_have_is_told_with_both_ways_out(root: Path) -> None:
    put(root / "new.yaml", guest("new1", spec="  host: locale\n"))
    (problem,) = catalog(root).scan().snapshot.document_problems("new1")
    assert "no host locale; did you mean `local`?" in problem.message
    assert "or add [hosts.locale] to the settings" in problem.message


# --- Vanished documents ---------------------------------------------------------------------------


def test_a_vanished_document_orphans_its_guest_until_it_returns(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests["db1"]
    text = (root / "db.yaml").read_text()
    (root / "db.yaml").unlink()
    assert subject.scan().snapshot.guests["db1"] == good, "one look is no evidence"
    result = settle(subject)
    assert result.changed == {"db1"}
    assert "db1" not in result.snapshot.guests
    assert result.snapshot.orphans == {"db1": good}
    assert subject.scan().snapshot.orphans == {"db1": good}

    put(root / "db.yaml", text)
    result = subject.scan()
    assert result.changed == {"db1"}
    assert (dict(result.snapshot.orphans), result.snapshot.guests["db1"]) == ({}, good)


def test_an_orphan_whose_document_returns_broken_is_last_good_again(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests["db1"]
    text = (root / "db.yaml").read_text()
    (root / "db.yaml").unlink()
    assert set(settle(subject).snapshot.orphans) == {"db1"}
    put(root / "db.yaml", text.replace("512Mi", "512MB"))
    snapshot = subject.scan().snapshot
    assert (dict(snapshot.orphans), snapshot.guests["db1"]) == ({}, good)
    assert snapshot.document_problems("db1")


def test_nothing_vanishes_in_a_pass_with_an_error_elsewhere(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot
    (root / "db.yaml").unlink()
    put(root / "other.yaml", "kind: [")
    snapshot = subject.scan().snapshot
    assert snapshot.guests == good.guests
    assert snapshot.held == {"db1"}
    assert messages(snapshot, root) == [
        "db.yaml: the document of Guest db1 is gone, but as others have errors it is kept as it"
        " was; correct those to let it go, or put it back",
        "other.yaml:1: ends inside a [ ] or { }, or has a stray ',' there; close or remove it",
    ]
    (root / "other.yaml").unlink()
    assert set(settle(subject).snapshot.orphans) == {"db1"}


@pytest.mark.parametrize("how", ["empty", "missing", "writable", "subdirectory"])
def test_an_unusable_directory_changes_nothing(root: Path, how: str) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot
    if how == "missing":
        shutil.rmtree(root)
    elif how == "writable":
        root.chmod(0o777)
    else:
        empty(root)
        if how == "subdirectory":
            make_directory(root / "sub")
    snapshot = subject.scan().snapshot
    assert snapshot.guests == good.guests
    assert not snapshot.orphans
    assert len(snapshot.problems) == 1
    make_directory(root)
    root.chmod(0o755)
    copy_into(BASE, root)
    assert subject.scan().snapshot.problems == ()


def test_a_file_still_being_written_lets_nothing_vanish(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    (root / "db.yaml").unlink()
    put(root / "db2.yaml", "apiVersion: guestk")
    result = subject.scan(settle=30)
    assert result.unsettled
    assert "db1" in result.snapshot.guests
    assert result.snapshot.problems == ()
    put(root / "db2.yaml", (BASE / "db.yaml").read_text())
    assert subject.scan().changed == frozenset()


def test_a_quiet_pass_after_an_unsettled_one_still_decides(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    (root / "db.yaml").unlink()
    put(root / "web.yaml", (root / "web.yaml").read_text())
    assert "db1" in subject.scan(settle=30).snapshot.guests
    assert set(settle(subject).snapshot.orphans) == {"db1"}


# --- Clashes --------------------------------------------------------------------------------------


def nic(port: int, address: str = "127.0.0.1") -> str:
    return f'  interfaces: [{{name: lan, user: {{forwards: ["{address}:{port}:80/tcp"]}}}}]\n'


def test_who_has_a_port_keeps_it_even_from_an_earlier_file(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests["web1"]
    put(root / "a.yaml", guest("new1", spec=nic(18080)))
    snapshot = subject.scan().snapshot
    assert snapshot.guests["web1"] == good
    assert "new1" not in snapshot.guests
    assert "taken by Guest web1 (web.yaml:1)" in snapshot.document_problems("new1")[0].message


def test_two_guests_may_swap_their_ports(root: Path) -> None:
    put(root / "a.yaml", guest("a", spec=nic(1001)))
    put(root / "b.yaml", guest("b", spec=nic(1002)))
    subject = catalog(root)
    subject.scan()
    put(root / "a.yaml", guest("a", spec=nic(1002)))
    put(root / "b.yaml", guest("b", spec=nic(1001)))
    result = subject.scan()
    assert (result.snapshot.problems, result.changed) == ((), {"a", "b"})


def test_a_port_that_a_refused_guest_holds_is_not_free(root: Path) -> None:
    put(root / "a.yaml", guest("a", spec=nic(1001)))
    put(root / "b.yaml", guest("b", spec=nic(1002)))
    subject = catalog(root)
    subject.scan()
    put(root / "b.yaml", guest("b", spec=nic(1001)))
    put(root / "c.yaml", guest("c", spec=nic(1002)))
    snapshot = subject.scan().snapshot
    assert "c" not in snapshot.guests
    assert [problem.file for problem in snapshot.problems] == ["b.yaml", "c.yaml"]


def test_another_host_address_or_protocol_is_no_clash(root: Path) -> None:
    put(root / "a.yaml", guest("a", spec=nic(18080, "127.0.0.2")))
    put(root / "b.yaml", guest("b", spec="  host: other\n" + nic(18080)))
    put(root / "c.yaml", guest("c", spec=nic(18080).replace("/tcp", "/udp")))
    assert Catalog(root, ["local", "other"]).scan().snapshot.problems == ()


# --- The rest -------------------------------------------------------------------------------------


def test_equal_services_of_many_guests_are_one_object(root: Path) -> None:
    text = "---\n".join(
        guest(f"g{number}", spec="  services: [{name: app, unit: app.service}]\n")
        for number in range(3)
    )
    put(root / "many.yaml", text)
    guests = catalog(root).scan().snapshot.guests
    assert guests["g0"].services[0] is guests["g2"].services[0]


def test_the_revision_of_the_checkout_is_told(root: Path) -> None:
    git = make_directory(root / ".git")
    (git / "HEAD").write_text("a" * 40)
    subject = catalog(root)
    assert subject.scan().snapshot.revision == "a" * 40
    (git / "HEAD").write_text("b" * 40)
    result = subject.scan()
    assert (result.anything, result.changed) == (True, frozenset())


def test_paths_are_loaded_without_a_daemon_and_named_as_given(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "bad.yaml", guest("x", image="nothing"), 0o666)
    monkeypatch.chdir(root.parent)
    snapshot = load_paths([Path("desired"), Path("desired/web.yaml")], None)
    assert [problem.file for problem in snapshot.problems] == ["desired/bad.yaml"]
    alone = load_paths([Path("desired/db.yaml"), Path("desired/base.yaml")], None)
    assert set(alone.guests) == {"db1"}
    assert load_paths([Path("gone.yaml")], None).problems[0].file == "gone.yaml"


def test_readers_and_scanners_in_many_threads_see_whole_snapshots(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    wrong: list[object] = []

    def read() -> None:
        for _ in range(50):
            snapshot = subject.snapshot
            if set(snapshot.guests) != {"web1", "db1"}:
                wrong.append(snapshot)
            subject.scan()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        put(root / "web.yaml.tmp", (BASE / "web.yaml").read_text() + f"  # {number}\n")
        (root / "web.yaml.tmp").rename(root / "web.yaml")
    for thread in threads:
        thread.join(30)
    assert wrong == []


# --- Values of a service that a guest misspells ---------------------------------------------------


def _with_values(template: str, values: str, own: str = "{}") -> str:
    files = f"  files: [{{path: /etc/app.conf, content: '{template}'}}]\n  values: {own}\n"
    use = f"  services: [{{use: app, values: {values}}}]\n"
    return service("app", files) + "---\n" + guest("x", spec=use)


@pytest.mark.parametrize(
    ("template", "values", "own"),
    [
        ("{{ values.greeting }}", "{greeting: hi}", "{}"),
        ('{{ values["greeting"] }}', "{greeting: hi}", "{}"),
        ('{{ values.get("greeting", "hello") }}', "{greeting: hi}", "{}"),
        (
            "{% if values.tls is defined %}{{ values.tls.port }}{% endif %}",
            "{tls: {port: 1}}",
            "{}",
        ),
        ("static", "{greeting: hi}", "{greeting: hello}"),
        ("{% for k in values %}{{ k }}{% endfor %}", "{anything: 1}", "{}"),
        ("{% for k, v in values.items() %}{{ k }}{% endfor %}", "{anything: 1}", "{}"),
        ("{{ values | tojson }}", "{anything: 1}", "{}"),
        ("{{ values[guest.name] }}", "{x: 1}", "{}"),
        ("{% set v = values %}{{ v.anything }}", "{anything: 1}", "{}"),
        ('{{ values.get(guest.name, "none") }}', "{x: 1}", "{}"),
    ],
)
def test_a_value_that_a_template_may_read_is_taken(
    root: Path, template: str, values: str, own: str
) -> None:
    put(root / "x.yaml", _with_values(template, values, own))
    snapshot = catalog(root).scan().snapshot
    assert snapshot.problems == ()
    assert "x" in snapshot.guests


@pytest.mark.parametrize(
    ("template", "own", "tip"),
    [
        ("{{ values.greeting }}", "{greeting: hi}", "did you mean `greeting`?"),
        ('{{ values["greeting"] | default("hi") }}', "{}", "did you mean `greeting`?"),
        ("{{ values.a }}{{ values.b }}", "{a: 1, b: 2}", "it has a, b"),
        ("static", "{}", "it takes none; remove it"),
    ],
)
def test_a_value_that_nothing_reads_is_a_problem_of_the_guest_alone(
    root: Path, template: str, own: str, tip: str
) -> None:
    put(root / "x.yaml", _with_values(template, "{greating: hi}", own))
    put(root / "y.yaml", guest("y"))
    snapshot = catalog(root).scan().snapshot
    (problem,) = snapshot.problems
    assert problem.field == "spec.services[0].values.greating"
    assert problem.line > 1
    assert problem.message == f"Service app has no such value; {tip}"
    assert snapshot.document_problems("x") == (problem,)
    assert "x" not in snapshot.guests
    assert "y" in snapshot.guests


# --- Whether the missing are gone -----------------------------------------------------------------


def test_before_the_first_scan_nothing_missing_is_believed(root: Path) -> None:
    assert catalog(root).snapshot.uncertain == "the directory was not read yet"


def test_a_whole_directory_is_certain_and_any_error_in_it_makes_it_uncertain(root: Path) -> None:
    subject = catalog(root)
    assert (subject.scan().snapshot.uncertain, subject.snapshot.empty) == ("", False)
    put(root / "other.yaml", "kind: [")
    assert "other.yaml:1: ends inside" in subject.scan().snapshot.uncertain
    (root / "other.yaml").unlink()
    assert subject.scan().snapshot.uncertain == ""


def test_a_file_that_is_being_written_makes_it_uncertain(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    put(root / "new.yaml", "apiVersion")
    assert "being written" in subject.scan(settle=30).snapshot.uncertain


def test_an_error_that_concerns_what_a_guest_names_is_no_doubt_about_others(root: Path) -> None:
    put(root / "new.yaml", guest("new1", image="nothing"))
    assert catalog(root).scan().snapshot.uncertain == ""


def test_orphans_are_looked_at_again_when_they_are_believed_again(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    (root / "db.yaml").unlink()
    settle(subject)
    put(root / "other.yaml", "kind: [")
    assert "db1" in subject.scan().changed
    (root / "other.yaml").unlink()
    assert "db1" in subject.scan().changed


def test_an_emptied_directory_is_believed_once_an_operator_says_so(root: Path) -> None:
    subject = catalog(root)
    good = subject.scan().snapshot.guests
    empty(root)
    held = subject.scan().snapshot
    assert (held.guests, held.empty, dict(held.orphans)) == (good, True, {})
    assert "has no documents" in held.uncertain
    subject.approve_missing()
    result = subject.scan()
    assert (dict(result.snapshot.guests), result.snapshot.orphans) == ({}, good)
    assert (result.snapshot.empty, result.snapshot.uncertain) == (True, "")
    assert (result.snapshot.problems, result.snapshot.invalid) == ((), 0)
    assert result.changed == {"web1", "db1"}
    assert subject.scan().snapshot.uncertain == ""


def test_that_word_is_over_once_documents_are_there_again(root: Path) -> None:
    subject = catalog(root)
    subject.scan()
    empty(root)
    subject.scan()
    subject.approve_missing()
    subject.scan()
    copy_into(BASE, root)
    assert set(subject.scan().snapshot.guests) == {"web1", "db1"}
    empty(root)
    assert set(subject.scan().snapshot.guests) == {"web1", "db1"}
    assert subject.snapshot.uncertain


def test_a_daemon_that_finds_an_empty_directory_believes_it_only_when_told(root: Path) -> None:
    empty(root)
    subject = catalog(root)
    first = subject.scan().snapshot
    assert (first.empty, bool(first.uncertain)) == (True, True)
    subject.approve_missing()
    assert (subject.scan().snapshot.uncertain, subject.snapshot.empty) == ("", True)


@pytest.mark.parametrize("how", ["gone before", "gone since", "broken"])
def test_what_cannot_be_known_to_be_gone_is_not_approved(root: Path, how: str) -> None:
    subject = catalog(root)
    subject.scan()
    if how == "broken":
        put(root / "other.yaml", "kind: [")
        subject.scan()
    else:
        empty(root)
        subject.scan()
        root.rename(root.with_name("elsewhere"))
        if how == "gone before":
            subject.scan()
    with pytest.raises(PermanentError, match="nothing is approved"):
        subject.approve_missing()


def test_a_directory_on_another_file_system_lost_its_mount(root: Path, tmp_path: Path) -> None:
    """``/dev/shm`` is another file system than the one that tests write to."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    link = tmp_path / "link"
    link.symlink_to(root)
    subject = catalog(link)
    good = subject.scan().snapshot.guests
    with tempfile.TemporaryDirectory(dir=shm) as other:
        Path(other).chmod(0o755)
        link.unlink()
        link.symlink_to(other)
        bare = subject.scan().snapshot
        assert (bare.guests, bare.empty) == (good, False)
        assert "another file system" in bare.uncertain
        with pytest.raises(PermanentError, match="another file system"):
            subject.approve_missing()
        put(Path(other) / "base.yaml", (root / "base.yaml").read_text())
        put(Path(other) / "db.yaml", (root / "db.yaml").read_text())
        part = subject.scan().snapshot
        assert (part.guests, part.held) == (good, {"web1"})
        assert "lacks 1 of its documents" in part.uncertain
        assert "may be unmounted" in part.document_problems("web1")[0].message
        put(Path(other) / "web.yaml", (root / "web.yaml").read_text())
        assert subject.scan().snapshot.uncertain == ""
        (Path(other) / "web.yaml").unlink()
        assert set(settle(subject).snapshot.orphans) == {"web1"}


# --- Since when a document is gone ----------------------------------------------------------------


def test_an_absence_is_counted_from_the_pass_that_missed_the_document(root: Path) -> None:
    now = [100.0]
    subject = Catalog(root, None, check_permissions=False, monotonic=lambda: now[0])
    assert subject.snapshot.absent("db1", 100.0) == 0.0
    subject.scan()
    assert subject.snapshot.absent("db1", 200.0) == 0.0
    assert subject.snapshot.absent("never-there", 200.0) == 100.0
    text = (root / "db.yaml").read_text()
    for gone, back in ((200.0, 300.0), (400.0, 500.0)):
        now[0] = gone - 10
        (root / "db.yaml").unlink()
        for step in (0.0, 5.0, 5.0):  # it counts from the scan that believes it
            now[0] += step
            assert subject.snapshot.absent("db1", now[0]) == 0.0
            subject.scan()
        assert subject.scan().snapshot.absent("db1", gone + 50) == 50.0
        now[0] = back
        put(root / "db.yaml", text)
        subject.scan()
        assert subject.snapshot.absent("db1", back + 50) == 0.0


def test_until_the_directory_is_believed_nothing_is_known_to_be_gone(root: Path) -> None:
    now = [100.0]
    text = (root / "db.yaml").read_text()
    put(root / "db.yaml", "kind: [")
    subject = Catalog(root, None, check_permissions=False, monotonic=lambda: now[0])
    subject.scan()
    now[0] = 200.0
    assert subject.snapshot.absent("db1", 200.0) == 0.0
    put(root / "db.yaml", text)
    subject.scan()
    assert subject.snapshot.absent("never-there", 250.0) == 50.0
