# SPDX-License-Identifier: BSD-3-Clause
"""Scenario files: reading, checking, includes, variables. lab/README.md documents the format."""

import copy
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from .outside import NICS_MAX
from .paths import SCENARIOS, LabError

TOP_KEYS = {"description", "groups", "needs", "timeout", "include", "vars", "host", "guest", "step",
            "report", "keep_going"}
HOST_KEYS = {"memory": int, "cpus": int, "model": str, "allow_log": list,
             "nic": int, "capture": int, "clock": str, "init": str}
INITS = ("agent", "systemd")
CLOCKS = ("none", "slowdown")
GUEST_KEYS = {"name": str, "memory": int, "smp": int, "cpu": str, "shared": bool, "hugetlb": bool, "hugepages": int,
              "accel": str, "append": str, "extra": str, "net": str, "net_mac": str, "doorbell": str}
ACTIONS = ("run", "start_guest", "stop_guest", "kill_guest", "reboot_guest", "wait", "sleep", "check",
           "include")
STEP_KEYS = set(ACTIONS) | {
    "name", "on", "background", "as", "timeout", "expect_exit", "expect", "reject", "capture", "parse",
    "when", "retries", "delay", "always", "for", "with", "show"}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
GUEST_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


class ScenarioError(LabError):
    """A scenario file is wrong: where, and how."""


@dataclass
class Scenario:
    name: str
    path: Path
    description: str = ""
    groups: list = field(default_factory=list)
    needs: list = field(default_factory=list)
    timeout: float = 900
    keep_going: bool = False
    vars: dict = field(default_factory=dict)
    host: dict = field(default_factory=dict)
    guests: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    report: list = field(default_factory=list)


def substitute(item, values: dict, partial: bool = False):
    """Replaces {{name}} in strings, also inside lists and tables. partial: leave unknown names."""
    if isinstance(item, str):
        def one(match):
            if match[1] in values:
                return str(values[match[1]])
            if partial:
                return match[0]
            raise ScenarioError(f"'{match[0]}' in '{item[:80]}' has no value")
        return PLACE.sub(one, item)
    if isinstance(item, list):
        return [substitute(i, values, partial) for i in item]
    if isinstance(item, dict):
        return {substitute(k, values, partial): substitute(v, values, partial) for k, v in item.items()}
    return item


def find(name: str) -> Path:
    """The file of a scenario given by name or path."""
    for path in [Path(name), SCENARIOS / f"{name}.toml"]:
        if path.is_file():
            return path
    raise ScenarioError(f"no scenario '{name}': neither a file nor one of {', '.join(all_names())}")


def all_names() -> list:
    return sorted(p.stem for p in SCENARIOS.glob("*.toml"))


def read_toml(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ScenarioError(f"{path}: no such file") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ScenarioError(f"{path}: {e}") from e


def load(path: Path, overrides: dict = None) -> Scenario:
    """Reads and checks a scenario. overrides: variables that win over those of the file."""
    path = Path(path)
    data = _merge_includes(path, read_toml(path), set())
    _check_keys(path, "the file", data, TOP_KEYS)
    s = Scenario(name=path.stem, path=path)
    for key in ["description", "groups", "needs", "timeout", "keep_going", "host", "report"]:
        if key in data:
            setattr(s, key, data[key])
    s.vars = {**data.get("vars", {}), **(overrides or {})}
    s.guests = data.get("guest", [])
    _check_host(path, s.host)
    s.guests = substitute(s.guests, s.vars, partial=True)
    for g in s.guests:
        _check_guest(path, g)
    names = [g["name"] for g in s.guests]
    if len(set(names)) != len(names):
        raise ScenarioError(f"{path}: two guests have the same name")
    s.steps = _expand(path, data.get("step", []), s.vars, 0)
    for n, step in enumerate(s.steps, 1):
        _check_step(f"{path}: step {n} ({step.get('name', 'unnamed')})", step, names, s.host.get("nic"))
    for table in s.report:
        _check_report(path, table)
    return s


def _merge_includes(path: Path, data: dict, seen: set) -> dict:
    """include = "file" or a list: their tables first, this file's values win."""
    include = data.pop("include", [])
    merged = {}
    for name in [include] if isinstance(include, str) else include:
        other = path.parent / name
        if other in seen:
            raise ScenarioError(f"{path}: {name} is included twice or includes itself")
        seen.add(other)
        inner = _merge_includes(other, read_toml(other), seen)
        merged = _merge(merged, inner)
    return _merge(merged, data)


def _merge(base: dict, over: dict) -> dict:
    out = dict(base)
    for key, value in over.items():
        if key in ("guest", "step", "report", "needs", "groups"):
            out[key] = out.get(key, []) + value
        elif isinstance(value, dict):
            out[key] = {**out.get(key, {}), **value}
        else:
            out[key] = value
    return out


def _expand(path: Path, steps: list, variables: dict, depth: int) -> list:
    """Unrolls `for` and inserts included step files."""
    if depth > 8:
        raise ScenarioError(f"{path}: includes nest too deep")
    out = []
    for step in steps:
        if not isinstance(step, dict):
            raise ScenarioError(f"{path}: a step must be a table ([[step]])")
        for values in _for_values(path, step):
            one = copy.deepcopy({k: v for k, v in step.items() if k != "for"})
            one = substitute(one, values, partial=True)
            if "include" in one:
                other = path.parent / substitute(one["include"], variables)
                inner = substitute(read_toml(other).get("step", []), one.get("with", {}), partial=True)
                out += _expand(other, inner, variables, depth + 1)
            else:
                out.append(one)
    return out


def _for_values(path: Path, step: dict) -> list:
    loop = step.get("for")
    if loop is None:
        return [{}]
    if not isinstance(loop, dict) or len({len(v) for v in loop.values()}) != 1:
        raise ScenarioError(f"{path}: 'for' needs a table of lists of one length, e.g. {{ n = [1, 2] }}")
    return [dict(zip(loop, row)) for row in zip(*loop.values())]


def _check_keys(path, where: str, table: dict, known) -> None:
    for key in table:
        if key not in known:
            raise ScenarioError(f"{path}: {where}: unknown key '{key}' (known: {', '.join(sorted(known))})")


def _check_types(path, where: str, table: dict, types: dict) -> None:
    _check_keys(path, where, table, types)
    for key, value in table.items():
        if type(value) is not types[key]:
            raise ScenarioError(f"{path}: {where}: '{key}' must be of type {types[key].__name__}, "
                                f"not {value!r}")


def _check_host(path: Path, host: dict) -> None:
    _check_types(path, "[host]", host, HOST_KEYS)
    if not 256 <= host.get("memory", 1536) <= 2048:
        raise ScenarioError(f"{path}: [host] memory = {host['memory']}: Bochs takes 256 to 2048 MiB")
    if host.get("cpus", 1) not in (1, 2, 4):
        raise ScenarioError(f"{path}: [host] cpus = {host['cpus']}: 1, 2 or 4")
    if not 0 <= host.get("nic", 0) <= NICS_MAX:
        raise ScenarioError(f"{path}: [host] nic = {host['nic']}: 0 to {NICS_MAX} cards")
    if not 0 <= host.get("capture", 0) <= 65535 or (host.get("capture") and not host.get("nic")):
        raise ScenarioError(f"{path}: [host] capture: bytes of each frame, 0 to 65535; needs nic = 1 or more")
    if host.get("clock", "none") not in CLOCKS:
        raise ScenarioError(f"{path}: [host] clock = '{host['clock']}': {' or '.join(CLOCKS)}")
    if host.get("init", "agent") not in INITS:
        raise ScenarioError(f"{path}: [host] init = '{host['init']}': {' or '.join(INITS)}")


def _check_guest(path: Path, guest: dict) -> None:
    where = f"[[guest]] {guest.get('name', '')}"
    _check_types(path, where, guest, GUEST_KEYS)
    if not GUEST_NAME.match(guest.get("name", "")) or guest["name"] in ("host", "outside"):
        raise ScenarioError(f"{path}: {where}: needs a name of small letters, digits and '-'")
    for key in ("cpu", "append", "extra", "accel"):
        if "'" in guest.get(key, ""):
            raise ScenarioError(f"{path}: {where}: no quote allowed in '{key}'")


def _check_step(where: str, step: dict, guests: list, nics: int) -> None:
    _check_keys(where, "this step", step, STEP_KEYS)
    actions = [a for a in ACTIONS if a in step and not (a == "check" and "run" in step)
               and not (a == "check" and "wait" in step)]
    if len(actions) != 1:
        raise ScenarioError(f"{where}: needs exactly one of {', '.join(ACTIONS)}, has {actions or 'none'}")
    places = ["host", *(["outside"] if nics else []), *guests]
    if "{{" not in step.get("on", "host") and step.get("on", "host") not in places:
        hint = "" if nics or step["on"] != "outside" else "; 'outside' needs [host] nic = 1"
        raise ScenarioError(f"{where}: on = '{step['on']}' is neither 'host' nor a guest{hint}")
    for key in ("start_guest", "stop_guest", "kill_guest", "reboot_guest"):
        for name in as_list(step.get(key, [])):
            if name not in guests:
                raise ScenarioError(f"{where}: {key}: there is no guest '{name}'")
    if step.get("background") and not NAME.match(step.get("as", "")):
        raise ScenarioError(f"{where}: a background step needs as = \"name\" for its 'wait' step")
    if step.get("parse", "json") != "json":
        raise ScenarioError(f"{where}: parse = '{step['parse']}': only \"json\"")
    for key in ("expect", "reject"):
        for pattern in as_list(step.get(key, [])):
            _check_regex(where, key, pattern, 0)
    for name, pattern in step.get("capture", {}).items():
        if not NAME.match(PLACE.sub("x", name)):
            raise ScenarioError(f"{where}: capture: '{name}' is not a name")
        if "parse" not in step:
            _check_regex(where, f"capture {name}", pattern, 1)


def _check_regex(where: str, key: str, pattern: str, groups: int) -> None:
    try:
        if re.compile(PLACE.sub("x", pattern), re.M).groups < groups:
            raise ScenarioError(f"{where}: {key}: '{pattern}' has no group (...) to capture")
    except re.error as e:
        raise ScenarioError(f"{where}: {key}: '{pattern}': {e}") from e


def _check_report(path: Path, table: dict) -> None:
    _check_keys(path, "[[report]]", table, {"title", "columns", "rows", "note"})
    for row in table.get("rows", []):
        if len(row) != len(table.get("columns", [])):
            raise ScenarioError(f"{path}: [[report]] {table.get('title')}: row {row} does not fit its columns")


def as_list(item) -> list:
    return item if isinstance(item, list) else [item]


def select(item: object, path: str):
    """The value at a dotted path inside parsed JSON: "ports.0.rx"; "." is the whole. Raises KeyError."""
    for part in [p for p in path.split(".") if p]:
        try:
            item = item[int(part)] if isinstance(item, list) else item[part]
        except (KeyError, IndexError, ValueError, TypeError) as e:
            raise KeyError(f"no '{part}' (of path '{path}') in the JSON output") from e
    return item


def number(text: str):
    """Captured text as int or float if it is one, else as it is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
