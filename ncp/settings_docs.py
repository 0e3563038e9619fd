"""The reference of ``ncp.ini`` as Markdown, from the table of options."""

from __future__ import annotations

from ncp.settings_options import OPTIONS, SECTIONS, Option

_HEAD = """# Configuration

`ncp manager` and `ncp node` read one file, `ncp.ini`. Names, sections and defaults are those of NSX-T's NCP where NCP has
the option, so an existing file can be used; section `[ncp]` is ours. Every option may be left out.
`ncp config check FILE` checks a file, `ncp config show FILE` prints the values that hold.
An unknown section or option, or a value that is not allowed, is an error.

Options marked *accepted* are read and checked, and have no effect yet.

Options marked *run time* can be overridden without a restart, where `[k8s] enable_ncp_setting_crd` is on: apply
`deploy/crds/ncpsetting.yaml` once, then an NCPSetting called `ncp-setting` (`spec.ip_reallocation_time: 5`). Its `status`
says what holds, and why where a value is refused; `ncp config show --live` shows it beside the file's values. Without
the object, the file's values hold. A changed `ip_reallocation_time` holds for addresses released from then on. Those that rest
already rest as long as they were to; when another manager takes over, or it restarts, none goes on resting for longer than
the time that holds then.

This page is written by `ncp config docs`.
"""


def render_markdown() -> str:
    """The whole page, ending in one newline."""
    parts = [_HEAD]
    for section, meaning in SECTIONS.items():
        rows = [option for option in OPTIONS if option.section == section]
        parts.append(f"## [{section}]\n\n{meaning}\n")
        parts.append("| Option | Type, allowed | Default | Meaning |\n|---|---|---|---|\n" + "".join(map(_row, rows)))
    return "\n".join(parts)


def _row(option: Option) -> str:
    allowed = option.kind.allowed
    kind = option.kind.name if allowed in ("any text", "a path", "True or False") else f"{option.kind.name}: {allowed}"
    default = f"`{option.default}`" if option.default else "nothing"
    meaning = option.meaning + (" *(accepted)*" if option.status == "accepted" else "")
    if option.runtime:
        meaning += " *(run time)*"
    if option.also:
        meaning += f" Also read from {', '.join(f'`[{section}]`' for section in option.also)}."
    return f"| `{option.name}` | {kind} | {default} | {meaning} |\n"
