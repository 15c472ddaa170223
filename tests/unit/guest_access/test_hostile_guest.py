"""A guest that lies to its agent's caller: whatever it answers ends as one error of our own, or as
facts that are bounded and can be shown."""

import base64
import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.desired.schema.model import SecretRef
from controller.errors import GuestkeeperError, PermanentError, TransientError
from controller.guest_access.agent import GuestAgent
from controller.guest_access.inside import ApplyFailedError, InsideAccess
from controller.guest_access.probing import InsideProber
from tests import factories as make
from tests.growing import ABOUT_AS_MUCH, cost_of_ten_times
from tests.unit.guest_access.sandbox import a_target

GUEST: Final = make.a_guest(services=(make.a_service(files=(make.a_file(),)),))
PROBE: Final = a_target("exec", command=("true",))
LOOK: Final = "guestkeeper-look\t1\n"
APPLY: Final = "guestkeeper-apply\t1\n"
HOSTILE: Final = "\x1b]0;owned\x07\x1b[2J\u202egpj.exe\u2066\x00\x9b\udcff\u200b"


class NoSecrets:
    def read(self, ref: SecretRef) -> str:
        raise AssertionError(ref)


def an_agent(status: str, started: str = '{"return":{"pid":1}}') -> GuestAgent:
    """An agent whose time passes only by waiting."""
    now = [0.0]

    def command(host: str, name: str, text: str, timeout: float) -> str:
        return started if json.loads(text)["execute"] == "guest-exec" else status

    def wait(seconds: float) -> bool:
        now[0] += max(seconds, 0.1)
        return False

    return GuestAgent(command, lambda: now[0], wait)


def an_access(status: str, started: str = '{"return":{"pid":1}}') -> InsideAccess:
    return InsideAccess(an_agent(status, started), NoSecrets(), lambda: 0.0)


def ended(**fields: Any) -> str:
    return json.dumps({"return": {"exited": True, "exitcode": 0, **fields}})


def printed(text: str | bytes, **fields: Any) -> str:
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return ended(**{"out-data": base64.b64encode(data).decode(), **fields})


def can_be_shown(text: str) -> bool:
    text.encode()
    odd = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return all(c == "\n" or unicodedata.category(c) not in odd for c in text)


def strings_of(value: Any) -> Iterator[str]:
    """Every string in the fields of a view."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from strings_of([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings_of(each)
    elif hasattr(value, "__slots__"):
        yield from strings_of([getattr(value, name) for name in value.__slots__])


GARBAGE: Final = {
    "deeply nested JSON": '{"return":' + "[" * 100_000 + "]" * 100_000 + "}",
    "nested as deep as it can be read": '{"return":' + "[" * 900 + "]" * 900 + "}",
    "nested error": '{"error":{"desc":' + "[" * 900 + "]" * 900 + "}}",
    "number of 5000 digits": '{"return":{"exited":true,"exitcode":' + "9" * 5000 + "}}",
    "number of 4000 digits": '{"return":{"exited":true,"exitcode":' + "9" * 4000 + "}}",
    "exit code that is a word": ended(exitcode="abc"),
    "exit code null": ended(exitcode=None),
    "exit code list": ended(exitcode=[]),
    "exit code below zero": ended(exitcode=-1),
    "exit code infinite": '{"return":{"exited":true,"exitcode":1e999}}',
    "signal that is a word": ended(signal="KILL"),
    "output that is not ASCII": ended(**{"out-data": "\u00e9"}),
    "output that is a number": ended(**{"out-data": 5}),
    "output that is half base64": ended(**{"out-data": "QUJD!"}),
    "mode of many digits": printed(LOOK + "stat\t" + "f" * 40 + "\tr\tr\t/etc/a\nlook-end\n"),
    "mode below zero": printed(LOOK + "stat\t-81a4\tr\tr\t/etc/a\nlook-end\n"),
    "inet6 below zero": printed(LOOK + f"inet6\t-{'1' * 31} 02 40 00 80 eth0\nlook-end\n"),
    "keys of 5000 digits": printed(LOOK + "keys-missing\t" + "9" * 5000 + "\nlook-end\n"),
    "a word for cloud-init's": printed(LOOK + "cloud-init\tfine\nlook-end\n"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_one_transient_error_that_says_what_it_was(name: str) -> None:
    with pytest.raises(TransientError) as raised:
        an_access(GARBAGE[name]).look(GUEST, make.a_domain(GUEST))
    # An agent that refuses to tell a command's end has lost it.
    assert raised.value.reason == ("AgentRestarted" if "error" in name else "FactsUnreadable")
    assert can_be_shown(str(raised.value))
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("pid", ["-1", "true", "1e3", '"1"', "9" * 30, "null", "[1]"])
def test_a_process_id_that_is_none_is_refused(pid: str) -> None:
    with pytest.raises(TransientError, match="no process id") as raised:
        an_access(ended(), '{"return":{"pid":' + pid + "}}").look(GUEST, make.a_domain(GUEST))
    assert raised.value.reason == "FactsUnreadable"


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"v1":[]}', '{"v1":{"errors":'])
def test_a_result_of_cloud_init_that_cannot_be_read_is_not_there_yet(text: str) -> None:
    reply = printed(f"{LOOK}cloud-init\tresult\ncloud-json\t{text}\nlook-end\n")
    view = an_access(reply).look(GUEST, make.a_domain(GUEST))
    assert view.cloud_init == "running"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["pid", "exited", "exitcode", "signal", "out-data", "err-data", "out-truncated", "class"]
)
REPLIES = st.one_of(
    st.text(),
    JSON.map(json.dumps),
    st.builds(
        lambda key, value: json.dumps({key: value}),
        st.sampled_from(["return", "error"]),
        JSON | st.dictionaries(FIELDS, JSON | st.just(True)),
    ),
    st.binary().map(printed),
    st.binary().map(lambda rest: printed(LOOK.encode() + rest + b"\nlook-end\n")),
)


@given(REPLIES, REPLIES | st.just('{"return":{"pid":1}}'))
@settings(max_examples=400, deadline=None)
def test_any_answer_of_an_agent_ends_as_facts_or_as_our_own_error(status: str, start: str) -> None:
    access = an_access(status, start)
    try:
        access.look(GUEST, make.a_domain(GUEST))
    except GuestkeeperError as error:
        assert can_be_shown(str(error))
        assert len(str(error).encode()) <= 5000
    ok, message = InsideProber(an_agent(status, start)).probe(PROBE, "web")
    assert ok in (True, False, None)
    assert can_be_shown(message)


def test_what_libvirt_repeats_of_a_guest_is_cleaned() -> None:
    def command(host: str, name: str, text: str, timeout: float) -> str:
        raise PermanentError(f"unable to execute QEMU agent command: {HOSTILE}" + "x" * 9000)

    with pytest.raises(PermanentError) as raised:
        GuestAgent(command, lambda: 0.0, lambda _: False).ping("local", "web")
    assert can_be_shown(str(raised.value))
    assert len(str(raised.value)) <= 1000


def test_what_an_agent_says_when_it_refuses_is_cleaned() -> None:
    reply = json.dumps({"error": {"class": HOSTILE, "desc": HOSTILE * 999}})
    with pytest.raises(PermanentError, match="refused guest-exec") as raised:
        an_access(ended(), reply).look(GUEST, make.a_domain(GUEST))
    assert can_be_shown(str(raised.value))
    assert len(str(raised.value)) < 1000


def test_every_string_of_a_look_can_be_shown() -> None:
    hostile = HOSTILE * 100
    lines = [
        f"boot\t{hostile}",
        f"hostname\t{hostile}\t{hostile}",
        f"package\tnginx\tinstalled\t{hostile}\t{hostile}",
        f"stat\t81a4\t{hostile}\t{hostile}\t/etc/app.conf",
        "Names=nginx.service",
        f"ActiveState={hostile}",
        f"UnitFileState={hostile}",
        "",
        *(f"pending\t{hostile}{n}" for n in range(9999)),
        *(f"pending\t{n}" for n in range(9999)),
        "look-end",
    ]
    view = an_access(printed(LOOK + "\n".join(lines))).look(GUEST, make.a_domain(GUEST))
    strings = list(strings_of(view))
    assert len(strings) < 500
    assert all(can_be_shown(text) and len(text) <= 300 for text in strings)
    assert view.hostname.startswith("\ufffd]0;owned\ufffd")


def test_what_a_failed_apply_printed_can_be_shown_and_is_no_flood() -> None:
    line = "output\t" + HOSTILE + "x" * 5000
    failure = "\n".join([f"error\t{HOSTILE}\t1\t{HOSTILE * 99}", *[line] * 200])
    first = "error\tapp\t7\tinstall\noutput\tall but the last line\noutput\t\x1b[31mno room\x1b[0m"
    text = APPLY + "\n".join([first, *[failure] * 30, LOOK, "look-end"])
    with pytest.raises(ApplyFailedError, match="app: install exited 7") as raised:
        an_access(printed(text)).apply(GUEST, make.a_domain(GUEST), GUEST.services)
    message = str(raised.value)
    assert "\nno room\n" in message
    assert message.endswith("and 21 more failures")
    assert can_be_shown(message)
    assert len(message.encode()) <= 4096
    for failed in raised.value.failures:
        assert len(failed.output.split("\n")) <= 20
        assert all(len(each) <= 300 for each in failed.output.split("\n"))
        assert all(can_be_shown(each) for each in strings_of(failed))


@pytest.mark.parametrize("code", [1, 137])
def test_what_a_script_printed_before_it_broke_can_be_shown(code: int) -> None:
    noise = base64.b64encode(f"{HOSTILE}\n".encode(errors="surrogateescape") * 9999 + b"\xff")
    reply = ended(exitcode=code, **{"err-data": noise.decode()})
    with pytest.raises(GuestkeeperError, match=f"exited {code}") as raised:
        an_access(reply).look(GUEST, make.a_domain(GUEST))
    assert can_be_shown(str(raised.value))
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize("code", ["0", "1", "9" * 5000, "\u0663"])
def test_what_a_probe_is_told_can_be_shown(code: str) -> None:
    agent = an_agent(printed(f"probe\t{code}\t{HOSTILE * 999}\n"))
    ok, message = InsideProber(agent).probe(PROBE, "web")
    assert ok is {"0": True, "1": False}.get(code)
    assert can_be_shown(message)
    assert len(message) < 400


def _addresses(*lines: str) -> tuple[str, ...]:
    text = LOOK + "\n".join(lines) + "\nlook-end\n"
    return an_access(printed(text)).look(GUEST, make.a_domain(GUEST)).addresses


@pytest.mark.parametrize(
    "address",
    [
        "localhost", "0", "127.1", "127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254",
        "224.0.0.1", "255.255.255.255", "0x7f000001", "10.0.0.1 x", "10.0.0.1#", "example.org",
        "1" * 5000, "\u0661.1.1.1", "",
    ],
)  # fmt: skip
def test_an_address_that_is_none_of_the_guests_own_is_left_out(address: str) -> None:
    assert _addresses(f"address\t{address}", "address\t10.0.0.7") == ("10.0.0.7",)


@pytest.mark.parametrize(
    "address",
    [
        f"{1:032x}", f"{0:032x}", "ff02" + "0" * 27 + "1", "fe80" + "0" * 27 + "1",
        f"{0xFFFF7F000001:032x}", f"{0x7F000001:032x}",
    ],
)  # fmt: skip
def test_an_ipv6_address_that_reaches_another_machine_is_left_out(address: str) -> None:
    good = "20010db8000000000000000000000007 02 40 00 80 eth0"
    line = f"inet6\t{address} 02 40 00 80 eth0"
    assert _addresses(line, f"inet6\t{good}", f"inet6\t{good}") == ("2001:db8::7",)


def test_addresses_are_few_and_each_is_told_once() -> None:
    lines = [f"address\t10.0.{n // 256}.{n % 256}" for n in range(1000)]
    found = _addresses(*lines[:3], *lines)
    assert len(found) == 64
    assert found[:3] == ("10.0.0.0", "10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize("line", ["address\tx%d", "address\t10.%d", "package\t%d\tinstalled\ta\t1",
                                  "pending\t%d", "stat\t1\ta\tb\t/%d", "Names=%d"])  # fmt: skip
def test_as_much_as_libvirt_passes_on_is_read_in_time_that_grows_with_its_length(
    line: str,
) -> None:
    def reading(size: int) -> Callable[[], object]:
        count = size // (len(line) + 4)
        reply = printed(LOOK + "".join(f"{line % n}\n" for n in range(count)) + "look-end\n")
        access = an_access(reply)
        return lambda: access.look(GUEST, make.a_domain(GUEST))

    assert cost_of_ten_times(reading, 3 * 2**20 // 10) < ABOUT_AS_MUCH
