"""Each kind of answer file: what passes, and what no installer would have told in time."""

import base64

import pytest

from controller.desired.answers.autoinstall import autoinstall_findings
from controller.desired.answers.kickstart import kickstart_findings
from controller.desired.answers.preseed import preseed_findings
from controller.desired.answers.rules import MARKER_CHANNEL
from controller.desired.effective import ROOT_PASSWORD_HASH
from controller.observed import build

SAY = f"echo success >/dev/virtio-ports/{MARKER_CHANNEL}"
KS_END = f"poweroff\n%post\n{SAY}\n%end\n"
PRESEED_END = (
    f"d-i debian-installer/exit/poweroff boolean true\nd-i preseed/late_command string {SAY}\n"
)
AUTO_END = f"  late-commands: [{SAY}]\n  shutdown: poweroff\n"


def test_the_marker_is_the_one_that_the_builder_listens_to() -> None:
    assert build.MARKER_CHANNEL == MARKER_CHANNEL


# --- Kickstart ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "rootpw --lock",
        "rootpw --iscrypted $6$salt$hash",
        "rootpw --iscrypted --allow-ssh $y$j9T$x",
        f"rootpw --iscrypted {ROOT_PASSWORD_HASH}",
        'rootpw --iscrypted "!"',
        "user --name=me --groups=wheel --lock",
        "user --name=me --password=$6$salt$hash --iscrypted",
        "user --name=me --iscrypted --password $6$salt$hash",
        "bootloader --location=mbr --iscrypted --password=grub.pbkdf2.sha512.10000.x",
        "sshpw --username=root --iscrypted $6$salt$hash",
        "sshpw --username root --lock",
        "# rootpw geheim",
        "%pre\nrootpw() { echo geheim; }\n%end",
        '%post\necho "an open quote\nis a script\'s own affair"\n%end',
        "%include /tmp/disks.ks",
        "shutdown",
    ],
)
def test_a_kickstart_without_a_secret_passes(line: str) -> None:
    assert list(kickstart_findings(f"{line}\n{KS_END}")) == []


@pytest.mark.parametrize(
    "line",
    [
        "rootpw geheim",
        "rootpw --lock geheim",
        "rootpw --plaintext geheim",
        "rootpw --plain geheim",
        "rootpw --iscrypted geheim",
        "rootpw --allow-ssh geheim",
        "user --name=me --password=geheim",
        "user --name=me --password geheim",
        "user --name=me --passw=geheim",
        "user --name=me --plaintext --password=$6$salt$hash",
        "user --name=me --lock --password=geheim",
        "user --name=me --password=$6$salt$hash",
        'user --name=me "--password=two words"',
        "bootloader --password=geheim",
        "bootloader --iscrypted --password=geheim",
        "sshpw --username=root geheim",
        "sshpw --username root geheim",
        "part / --size=1 --encrypted --passphrase=geheim",
    ],
)
def test_a_plain_password_in_a_kickstart_is_told_with_its_line_but_not_quoted(line: str) -> None:
    (finding,) = kickstart_findings(f"lang en_US.UTF-8\n{line}\n{KS_END}")
    assert (finding.line, finding.secret) == (2, True)
    assert "password in plain text" in finding.message
    assert "geheim" not in finding.message


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("", "does not say how it ends"),
        ("halt\n", "ends with halt"),
        ("reboot --eject\n", "ends with reboot"),
        ("poweroff\nreboot\n", "ends with reboot"),
        ("%post\npoweroff\n%end\n", "does not say how it ends"),
    ],
)
def test_a_kickstart_says_that_it_powers_off(end: str, words: str) -> None:
    (finding,) = kickstart_findings(KS_END.replace("poweroff\n", end, 1))
    assert words in finding.message


def test_the_last_word_on_how_a_kickstart_ends_counts() -> None:
    assert list(kickstart_findings(f"reboot\n{KS_END}")) == []


@pytest.mark.parametrize(
    ("scripts", "good"),
    [
        (f"%post\n{SAY}\n%end\n", True),
        (f"%post --nochroot\n{SAY}\n%end\n", True),
        (f"%post\necho {base64.b64encode(SAY.encode()).decode()} | base64 -d | sh\n%end", True),
        (f"%post\n# {SAY}\n%end\n", False),
        (f"%onerror\n{SAY}\n%end\n", False),
        (f"# {SAY}\n", False),
        ("", False),
    ],
)
def test_a_kickstart_can_say_success(scripts: str, good: bool) -> None:
    found = [finding.message for finding in kickstart_findings(f"poweroff\n{scripts}")]
    assert [("never says success" in message) for message in found] == ([] if good else [True])


# --- Preseed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "# comment",
        "#_preseed_V1",
        "d-i netcfg/get_domain string",
        "d-i netcfg/get_domain string ",
        "tasksel tasksel/first multiselect standard, web-server",
        "d-i\tclock-setup/utc\tboolean true",
        "d-i partman-auto/expert_recipe string root :: \\\n  500 1000 -1 ext4 \\\n  .",
        "d-i netcfg/get_hostname seen false",
        f"d-i passwd/root-password-crypted password {ROOT_PASSWORD_HASH}",
        "d-i passwd/root-password-crypted password !",
        "d-i passwd/user-password-crypted password $6$salt$hash",
        "d-i grub-installer/password-crypted password $1$salt$hash",
        "d-i passwd/root-password password",
    ],
)
def test_a_line_for_debconf_passes(text: str) -> None:
    assert list(preseed_findings(f"{text}\n{PRESEED_END}")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("d-i", "is not a line for debconf"),
        ("d-i clock-setup/utc", "is not a line for debconf"),
        ("echo hello", "is not a line for debconf"),
        ("d-i clock-setup/utc true boolean", '"true" is no type'),
        ("d-i clock-setup/utc boolean", "must be true or false"),
        ("d-i passwd/root-password password geheim", "password in plain text"),
        ("d-i passwd/root-password \\\n  password geheim", "password in plain text"),
        ("d-i passwd/root-password-crypted password geheim", "password in plain text"),
        ("d-i partman-crypto/passphrase password geheim", "password in plain text"),
    ],
)
def test_what_debconf_would_not_take_or_nobody_may_read_is_told(text: str, words: str) -> None:
    (finding,) = preseed_findings(f"# one\n{text}\n{PRESEED_END}")
    assert finding.line == 2
    assert words in finding.message
    assert "geheim" not in finding.message


def test_a_preseed_may_carry_its_scripts_as_comments() -> None:
    text = PRESEED_END.split("\n")[0] + "\nd-i preseed/late_command string sed ... | sh\n"
    assert list(preseed_findings(f"{text}#| {SAY}\n")) == []
    (finding,) = preseed_findings(f"{text}#| # {SAY}\n# {SAY}\n")
    assert "never says success" in finding.message


def test_the_last_word_on_how_a_preseed_ends_counts() -> None:
    power = "d-i debian-installer/exit/poweroff boolean"
    assert list(preseed_findings(f"{power} false\n{PRESEED_END}")) == []
    (finding,) = preseed_findings(f"{PRESEED_END}{power} false\n")
    assert (finding.line, "exit/poweroff to false" in finding.message) == (3, True)


# --- Autoinstall ----------------------------------------------------------------------------------


def auto(body: str = "", end: str = AUTO_END) -> str:
    return f"#cloud-config\nautoinstall:\n  version: 1\n{body}{end}"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "  identity: {hostname: a, username: b, password: $6$salt$hash}\n",
        f'  identity: {{hostname: a, username: b, password: "{ROOT_PASSWORD_HASH}"}}\n',
        "  user-data:\n    chpasswd: {expire: false, users: [{name: root, type: RANDOM}]}\n",
        '  user-data:\n    chpasswd: {list: ["root:$6$salt$hash", "you:RANDOM"]}\n',
        "  user-data:\n    users: [{name: a, passwd: '!', lock_passwd: true}]\n",
        "  ssh: {install-server: true, allow-pw: false}\n",
    ],
)
def test_an_autoinstall_without_a_secret_passes(body: str) -> None:
    assert list(autoinstall_findings(auto(body))) == []


@pytest.mark.parametrize(
    "body",
    [
        "  identity: {hostname: a, username: b, password: geheim}\n",
        "  identity: {hostname: a, username: b, password: 123456}\n",
        '  user-data: {chpasswd: {list: ["root:geheim"]}}\n',
        '  user-data: {chpasswd: {list: "root:geheim"}}\n',
        "  user-data: {users: [{name: a, passwd: geheim}]}\n",
        "  user-data: {users: [{name: a, hashed_passwd: geheim}]}\n",
        "  user-data: {users: [{name: a, plain_text_passwd: $6$salt$hash}]}\n",
        "  storage: {layout: {name: lvm, password: geheim}}\n",
        "  network: {wifis: {w: {access-points: {x: {password: geheim}}}}}\n",
    ],
)
def test_a_plain_password_in_an_autoinstall_is_told_with_its_line(body: str) -> None:
    (finding,) = autoinstall_findings(auto(body))
    assert (finding.line, finding.secret) == (4, True)
    assert "geheim" not in finding.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("autoinstall: [\n", 1, "inside a [ ] or { }"),
        ("#cloud-config\n", 0, "is not one YAML mapping"),
        (f"#cloud-config\nautoinstall:\n{AUTO_END}", 2, "version must be 1"),
        (auto().replace("version: 1", "version: true"), 3, "version must be 1"),
        (auto(end=f"  late-commands: [{SAY}]\n"), 2, "shutdown: poweroff"),
        (auto(end="  shutdown: poweroff\n"), 0, "never says success"),
        (auto("  version: 1\n"), 4, "given twice"),
        (auto().removeprefix("#cloud-config"), 0, "begin it with the line #cloud-config"),
    ],
)
def test_what_ubuntus_installer_would_not_take_is_told(text: str, line: int, words: str) -> None:
    found = [finding for finding in autoinstall_findings(text) if words in finding.message]
    assert [finding.line for finding in found] == [line]
