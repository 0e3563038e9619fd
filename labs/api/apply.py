"""Server-side apply, and the record of who manages which field."""

from __future__ import annotations

from typing import Any, NamedTuple

from labs.api.clock import now
from labs.api.errors import ApiError, Cause
from labs.api.fields import Fields, Path, at, containers_of, element, from_v1, own_fields, shown, to_v1, without
from labs.api.resources import Resource
from labs.api.types import ANY, Type

Obj = dict[str, Any]


class Owner(NamedTuple):
    """Who manages fields: a manager, how (Apply or Update), through which version and subresource."""

    manager: str
    operation: str
    version: str
    subresource: str


Owners = dict[Owner, Fields]


def owners_of(obj: Obj) -> Owners:
    """Who manages which fields of an object."""
    found: Owners = {}
    for entry in obj["metadata"].get("managedFields") or ():
        if not entry.get("manager"):
            continue
        owner = Owner(entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", ""))
        found[owner] = frozenset(from_v1(entry.get("fieldsV1", {})))
    return found


def record(obj: Obj, owners: Owners, before: Owners, times: Obj) -> None:
    """Writes who manages which field onto the object; entries that did not change keep their time."""
    entries = []
    for owner, owned in owners.items():
        if not owned:
            continue
        kept = times.get(owner) if before.get(owner) == owned else None
        entry = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": owner.version,
            "time": kept or now(),
            "fieldsType": "FieldsV1",
            "fieldsV1": to_v1(owned),
        }
        if owner.subresource:
            entry["subresource"] = owner.subresource
        entries.append(entry)
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def _times(obj: Obj) -> Obj:
    return {
        Owner(e["manager"], e["operation"], e["apiVersion"], e.get("subresource", "")): e.get("time")
        for e in obj["metadata"].get("managedFields") or ()
        if e.get("manager")
    }


def without_times(entries: list[Obj] | None) -> list[Obj]:
    """managedFields as far as they say something about fields."""
    return [{k: v for k, v in entry.items() if k != "time"} for entry in entries or ()]


def track(obj: Obj, before: Obj | None, resource: Resource, manager: str, subresource: str) -> None:
    """Records that this manager changed what differs between two states of an object."""
    owners = owners_of(obj)
    times, held = _times(obj), dict(owners)
    shape, custom = resource.type, resource.custom is not None
    new = own_fields(obj, shape)
    parts = frozenset(p for p in containers_of(obj, shape, custom=custom) if p != ("f:metadata",))
    if before is None:
        changed, removed = new | parts, frozenset()
    else:
        old = own_fields(before, shape)
        old_parts = frozenset(containers_of(before, shape, custom=custom))
        differing = (p for p in new if at(obj, shape, p) != at(before, shape, p) and not _entry(p, old))
        changed = frozenset(differing) | (parts - old_parts - old)
        removed = (old | old_parts) - new - parts
    if before is not None and not changed and not removed:
        return
    for owner, owned in owners.items():
        owners[owner] = frozenset(p for p in owned if p not in changed and p not in removed)
    me = Owner(manager, "Update", resource.group_version, subresource)
    owners[me] = owners.get(me, frozenset()) | changed
    record(obj, owners, held, times)


def _entry(path: Path, old: Fields) -> bool:
    """Whether the path is a list entry that was there before: what changed in it has paths of its own."""
    return bool(path) and path[-1].startswith("k:") and path in old


def applied(
    live: Obj | None, config: Obj, resource: Resource, manager: str, *, force: bool, subresource: str = ""
) -> Obj:
    """The object after ``manager`` applied ``config``. ApiError 409 names the fields others manage and it would change."""
    shape = resource.type
    wanted = own_fields(config, shape)
    if resource.has_status:
        in_status = subresource == "status"
        wanted = frozenset(p for p in wanted if (p[0] == "f:status") == in_status)
    me = Owner(manager, "Apply", resource.group_version, subresource)
    if live is None:
        result = dict(config)
        record(result, {me: wanted}, {}, {})
        return result
    owners = owners_of(live)
    if not owners:
        first = Owner("before-first-apply", "Update", resource.group_version, "")
        owners[first] = own_fields(live, shape)
    held, times = dict(owners), _times(live)
    result = merged(live, config, shape)
    _settle_conflicts(owners, me, wanted, live, result, shape, force)
    mine = owners.get(me, frozenset())
    others = frozenset().union(*(owned for owner, owned in owners.items() if owner != me))
    dropped = _droppable(mine - wanted, wanted | others)
    result = without(result, shape, dropped)
    for field in ("apiVersion", "kind", "metadata"):
        result.setdefault(field, live[field])
    result["metadata"].setdefault("name", live["metadata"]["name"])
    owners[me] = wanted
    record(result, owners, held, times)
    return result


def _settle_conflicts(
    owners: Owners, me: Owner, wanted: Fields, live: Obj, result: Obj, shape: Type, force: bool
) -> None:
    clashes: dict[Owner, list[Path]] = {}
    for owner, owned in owners.items():
        if owner == me:
            continue
        fought = [
            p for p in owned & wanted if at(live, shape, p) != at(result, shape, p) and not p[-1].startswith("k:")
        ]
        if fought:
            clashes[owner] = sorted(fought)
    if clashes and not force:
        raise conflict_of(clashes)
    for owner, fought in clashes.items():
        owners[owner] = owners[owner] - frozenset(fought)


def _contested(path: Path, live: Obj, result: Obj, shape: Type) -> bool:
    """Whether the values differ; of a part with fields of its own only its presence counts."""
    before, after = at(live, shape, path), at(result, shape, path)
    return (
        before != after and not path[-1].startswith("k:") and not (isinstance(before, dict) and isinstance(after, dict))
    )


def conflict_of(clashes: dict[Owner, list[Path]]) -> ApiError:
    """409 in the words kubectl prints."""
    count = sum(len(paths) for paths in clashes.values())
    causes, sentences = [], []
    for owner, paths in clashes.items():
        who = f'"{owner.manager}"' + (f' with subresource "{owner.subresource}"' if owner.subresource else "")
        who += f" using {owner.version}" if owner.operation == "Update" else ""
        causes += [Cause("FieldManagerConflict", f"conflict with {who}", shown(path)) for path in paths]
        if len(paths) == 1:
            sentences.append(f"conflict with {who}: {shown(paths[0])}")
        else:
            sentences.append(f"conflicts with {who}:\n" + "\n".join(f"- {shown(path)}" for path in paths))
    message = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: " + "\n".join(sentences)
    return ApiError(409, "Conflict", message, causes=causes)


def _droppable(dropped: Fields, still: Fields) -> Fields:
    """Of the fields a manager gave up, those nobody else holds, neither as such nor through something inside."""
    return frozenset(p for p in dropped if not any(other[: len(p)] == p for other in still))


def merged(live: Any, config: Any, shape: Type) -> Any:
    """The live value with what the configuration states put in, by the rules of the type."""
    if isinstance(config, dict) and isinstance(live, dict) and not shape.atomic:
        return {**live, **{k: merged(live[k], v, shape.child(k)) if k in live else v for k, v in config.items()}}
    if isinstance(config, list) and isinstance(live, list) and shape.kind == "list" and shape.rule.kind != "atomic":
        return _merged_list(live, config, shape)
    return config


def _merged_list(live: list[Any], config: list[Any], shape: Type) -> list[Any]:
    result = list(live)
    steps = [element(item, shape) for item in live]
    for item in config:
        step = element(item, shape)
        if step is not None and step in steps:
            place = steps.index(step)
            result[place] = merged(result[place], item, shape.item or ANY)
        else:
            result.append(item)
            steps.append(step)
    return result
