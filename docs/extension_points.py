"""Write the tables of all hooks and capabilities into reference/hooks-and-capabilities.md.

They come from the code. Run it after a change: ``python docs/extension_points.py``. A test compares
the page with what this makes.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from taskito.backends import Capabilities
from taskito.plugins import hookspecs

PAGE = Path(__file__).parent / "reference" / "hooks-and-capabilities.md"
BEGIN = "<!-- begin: made by docs/extension_points.py -->\n"
END = "<!-- end: made by docs/extension_points.py -->\n"


def hook_row(name: str) -> str:
    hook = getattr(hookspecs, name)
    summary = inspect.getdoc(hook).splitlines()[0]
    arguments = ", ".join(inspect.signature(hook).parameters)
    first = "first that is not None" if hook.taskito_spec["firstresult"] else "all"
    return f"| `{name}({arguments})` | {summary} | {first} |\n"


def capability_row(field: dataclasses.Field[object]) -> str:
    entry = rf"^    {field.name}: (.+?)(?=^    \w+: |\Z)"
    described = re.search(entry, attributes(), re.MULTILINE | re.DOTALL)
    text = " ".join(described[1].split()).replace("``", "`")
    return f"| `{field.name}` | {text} | `{field.default}` |\n"


def attributes() -> str:
    return inspect.getdoc(Capabilities).partition("Attributes:\n")[2]


def generated() -> str:
    """Return what stands between the two marks."""
    hooks = "".join(hook_row(name) for name in hookspecs.__all__)
    capabilities = "".join(capability_row(field) for field in dataclasses.fields(Capabilities))
    return (
        f"\n## Hooks\n\n| hook | what it is for | whose answer counts |\n| --- | --- | --- |\n"
        f"{hooks}"
        f"\n## Capabilities\n\n| capability | what it covers | default |\n| --- | --- | --- |\n"
        f"{capabilities}\n"
    )


def renewed(page: str) -> str:
    """Return the page with what stands between the marks made anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{generated()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
