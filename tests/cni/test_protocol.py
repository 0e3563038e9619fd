from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipam.address import parse_address, parse_interface
from ncp.cni import wire
from ncp.cni.protocol import CniError, parse_request
from ncp.cni.result import PortConfig, add_result
from tests.cni.conftest import run_plugin

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {"cniVersion": "1.1.0", "name": "ncp", "type": "ncp-cni", "socket": "/nonexistent/cni.sock"}
ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c0ffee",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web",
}


def code(environment: dict[str, str], **config: object) -> tuple[int, str]:
    with pytest.raises(CniError) as refused:
        parse_request(environment, {**CONFIG, **config})
    return refused.value.code, refused.value.msg


@pytest.mark.parametrize("missing", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])
def test_a_missing_variable_is_named(missing: str) -> None:
    number, says = code({name: value for name, value in ENVIRONMENT.items() if name != missing})
    assert number == 4
    assert missing in says


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CNI_COMMAND", "REBOOT"),
        ("CNI_COMMAND", ""),
        ("CNI_CONTAINERID", "../etc"),
        ("CNI_CONTAINERID", "-rf"),
        ("CNI_IFNAME", "a-name-too-long-"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a b"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=shop"),
        ("CNI_ARGS", ""),
    ],
)
def test_a_malformed_variable_is_code_4_and_named(variable: str, value: str) -> None:
    number, says = code({**ENVIRONMENT, variable: value})
    assert number == 4
    assert variable in says


@pytest.mark.parametrize(
    ("config", "number", "says"),
    [
        ({"cniVersion": "9.9.9"}, 1, "9.9.9"),
        ({"cniVersion": 1}, 1, "cniVersion"),
        ({"name": ""}, 7, "name"),
        ({"timeout": 0}, 7, "timeout"),
        ({"timeout": "soon"}, 7, "timeout"),
        ({"timeout": True}, 7, "timeout"),
    ],
)
def test_a_malformed_configuration_names_its_key(config: dict[str, object], number: int, says: str) -> None:
    found, message = code(ENVIRONMENT, **config)
    assert found == number
    assert says in message


@pytest.mark.parametrize(("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
def test_a_command_of_a_later_version_is_refused(command: str, version: str) -> None:
    assert code({**ENVIRONMENT, "CNI_COMMAND": command}, cniVersion=version)[0] == 1


def test_del_needs_neither_namespace_nor_pod() -> None:
    environment = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c0ffee", "CNI_IFNAME": "eth0"}
    assert parse_request(environment, CONFIG).iface_id == ""


@pytest.mark.parametrize("environ", [{}, {b"CNI_A": b""}, {b"CNI_ARGS": b"A=1;B=2", b"CNI_IFNAME": b"eth0"}])
@pytest.mark.parametrize("stdin", [b"", b"{}", b"\0\0a\n\xff"])
def test_a_call_survives_the_wire(environ: dict[bytes, bytes], stdin: bytes) -> None:
    header, newline, body = wire.call({**environ, b"PATH": b"/bin"}, stdin).partition(b"\n")
    assert wire.length(header + newline) == len(body)
    assert wire.of_call(body) == ({name.decode(): value.decode() for name, value in environ.items()}, stdin)


@pytest.mark.parametrize("body", [b"", b"[]", b"CNI_A=1", b"CNI_A=1\0", b"CNI_A\0\0{}"])
def test_what_is_no_call_is_refused(body: bytes) -> None:
    with pytest.raises(wire.NotACall):
        wire.of_call(body)


@pytest.mark.parametrize("header", [b"", b"12", b"\n", b"-1\n", b"a\n", b"99999999999\n"])
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(wire.NotACall):
        wire.length(header)


def test_the_plugin_starts_without_costly_imports() -> None:
    """Each pod waits for the plugin's start: these modules would double it."""
    import subprocess
    import sys

    program = (
        "import sys, ncp.cni.__main__; print(*sorted({'re', 'enum', 'json', 'socket', 'typing'} & set(sys.modules)))"
    )
    done = subprocess.run(
        (sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("stdin", ["", "{", "[]", '"text"', "null", "\x00", "{}x", '{"a":NaN'])
def test_malformed_stdin_is_a_cni_error_and_no_traceback(stdin: str) -> None:
    outcome = run_plugin(stdin, **ENVIRONMENT)
    assert outcome.code == 1
    assert outcome.output["code"] == 6
    assert outcome.output["cniVersion"] == "1.1.0"
    assert outcome.stderr == ""


def test_a_configuration_nested_beyond_reason_is_a_cni_error_too() -> None:
    outcome = run_plugin('{"a":' * 100_000, **ENVIRONMENT)
    assert (outcome.code, outcome.stderr) == (1, "")
    assert "RecursionError" in outcome.output["msg"]


def test_a_configuration_longer_than_a_call_is_refused_with_its_length() -> None:
    outcome = run_plugin(json.dumps({**CONFIG, "long": "x" * wire.MAX_STDIN}), **ENVIRONMENT)
    assert outcome.output["code"] == 11
    assert str(wire.MAX_STDIN) in outcome.output["details"]


def test_errors_speak_the_version_asked_in() -> None:
    outcome = run_plugin(json.dumps({**CONFIG, "cniVersion": "0.4.0"}), **{**ENVIRONMENT, "CNI_IFNAME": ""})
    assert outcome.output["cniVersion"] == "0.4.0"
    assert outcome.output["code"] == 4


@pytest.mark.parametrize(("command", "number"), [("ADD", 11), ("DEL", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)])
def test_without_the_agent_the_runtime_is_told_to_come_again(command: str, number: int) -> None:
    outcome = run_plugin(json.dumps(CONFIG), **{**ENVIRONMENT, "CNI_COMMAND": command})
    assert outcome.code == 1
    assert outcome.output["code"] == number
    assert "/nonexistent/cni.sock" in outcome.output["msg"]
    assert outcome.stderr == ""


def test_version_needs_nothing() -> None:
    outcome = run_plugin("", CNI_COMMAND="VERSION")
    assert outcome.code == 0
    assert "1.0.0" in outcome.output["supportedVersions"]


def test_results_have_the_shape_of_their_version() -> None:
    port = PortConfig(
        5001,
        "02:4e:0a:04:00:02",
        (parse_interface("10.4.0.2/24"), parse_interface("fd00::2/64")),
        (parse_address("10.4.0.1"), parse_address("fd00::1")),
        1442,
    )

    def result(version: str) -> dict[str, object]:
        return add_result(version, port, interface="veth1", interface_mac="aa", ifname="eth0", netns="/run/netns/x")

    assert result("1.0.0") == {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "veth1", "mac": "aa"},
            {"name": "eth0", "mac": "02:4e:0a:04:00:02", "sandbox": "/run/netns/x"},
        ],
        "ips": [
            {"interface": 1, "address": "10.4.0.2/24", "gateway": "10.4.0.1"},
            {"interface": 1, "address": "fd00::2/64", "gateway": "fd00::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.4.0.1"}, {"dst": "::/0", "gw": "fd00::1"}],
        "dns": {},
    }
    assert [row["version"] for row in result("0.4.0")["ips"]] == ["4", "6"]  # type: ignore[index,attr-defined]
    assert result("1.1.0")["interfaces"][1]["mtu"] == 1442  # type: ignore[index]


def test_the_installed_plugin_is_self_contained(tmp_path: Path) -> None:
    import subprocess

    from ncp.cni.install import install

    plugin, config = install(tmp_path, tmp_path, "/run/ncp/cni.sock")
    done = subprocess.run(
        (str(plugin),), env={"CNI_COMMAND": "VERSION"}, cwd="/", capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["supportedVersions"]
    assert json.loads(config.read_text())["plugins"] == [{"type": "ncp-cni", "socket": "/run/ncp/cni.sock"}]
