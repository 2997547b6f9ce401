"""Every code block of the documentation does what the page says.

The Python blocks of a page run in order, in one fresh process, in a temporary folder. A block whose
first line names a file (``# tasks.py``) is saved under that name instead. ``print(...)  # text``
says what is printed. Console blocks behind ``<!-- run -->`` run where they stand; their workers run
until the end of the page and have to stop cleanly.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from taskito.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda page: page.as_posix()
)
TIMEOUT = 50

FENCE = re.compile(r"(?P<ticks>`{3,})(?P<language>\S*)\s*.*")
FILE_NAME = re.compile(r"# (?P<name>[\w.-]+\.(?:py|toml))")
PRINTS = re.compile(r"print\(.*\)  # (?P<text>.*)")
RUN = "<!-- run -->"

# What a page's program calls for a console block; it stands in the page's folder.
CONSOLE = """
import atexit, signal, subprocess

workers = []


def run(command):
    if "worker" in command:
        workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert done.stdout, f"{command} printed nothing"


def stop():
    while workers:
        worker = workers.pop()
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=30)
        assert worker.returncode == 0, errors.decode()


def kill():
    for worker in workers:
        worker.kill()


atexit.register(kill)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block; ``first`` is the index of its first line of code in the page."""

    language: str
    lines: list[str]
    first: int
    run: bool

    @property
    def file_name(self) -> str | None:
        """Under which name the block is saved instead of being run."""
        match = FILE_NAME.fullmatch(self.lines[0]) if self.lines else None
        return match["name"] if match else None

    @property
    def commands(self) -> list[str]:
        """The commands of a console block."""
        return [line[2:] for line in self.lines if line.startswith("$ ")]


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks = []
    index = 0
    while index < len(lines):
        match = FENCE.fullmatch(lines[index])
        index += 1
        if match is None:
            continue
        end = lines.index(match["ticks"], index)
        above = next((line for line in reversed(lines[: index - 1]) if line.strip()), "")
        blocks.append(Block(match["language"], lines[index:end], index, above == RUN))
        index = end + 1
    return blocks


def title(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def program_name(page: Path) -> str:
    """Return the page's name as that of a script; tasks are named after it."""
    name = page.stem.lower().replace("-", "_")
    # A script in the first folder of sys.path must not hide a module of the standard library.
    return f"{name}_page" if importlib.util.find_spec(name) else name


def program_of(page: Path) -> tuple[str, list[str], dict[str, str]]:
    """Return a page as a program, what it prints, and the files that stand beside it.

    Each line of code has the same number as in the page, so that a traceback points into it.
    """
    program = [""] * len(page.read_text(encoding="utf-8").splitlines())
    printed: list[str] = []
    files: dict[str, str] = {}
    for block in blocks_of(page):
        if block.file_name is not None:
            files[block.file_name] = "\n".join(block.lines) + "\n"
        elif block.language == "python":
            program[block.first : block.first + len(block.lines)] = block.lines
            for line in block.lines:
                if line.lstrip().startswith("print("):
                    match = PRINTS.fullmatch(line.strip())
                    assert match, f"{title(page)}: say what is printed: {line}"
                    printed.append(match["text"])
        elif block.language == "console" and block.run:
            for offset, line in enumerate(block.lines):
                if line.startswith("$ "):
                    command = [command_path(), *shlex.split(line[2:])[1:]]
                    program[block.first + offset] = f"import console; console.run({command!r})"
    program.append("import console; console.stop()")
    return "\n".join(program) + "\n", printed, files


def command_path() -> str:
    found = shutil.which("taskito", path=str(Path(sys.executable).parent))
    assert found, "the command taskito is not installed beside the interpreter"
    return found


PAGES_WITH_PYTHON = [
    page for page in PAGES if any(block.language == "python" for block in blocks_of(page))
]


@pytest.mark.process
@pytest.mark.parametrize("page", PAGES_WITH_PYTHON, ids=title)
def test_blocks_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    program, printed, files = program_of(page)
    script = tmp_path / f"{program_name(page)}.py"
    for name, text in {script.name: program, "console.py": CONSOLE, **files}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONSAFEPATH" and not name.startswith("TASKITO_")
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.splitlines() == printed


def test_readme_and_tutorial_begin_with_the_same_program() -> None:
    readme, tutorial = ROOT / "README.md", ROOT / "docs" / "tutorial" / "quickstart.md"
    first = [
        next(block.lines for block in blocks_of(page) if block.language == "python")
        for page in (readme, tutorial)
    ]
    assert first[0] == first[1]


def console_commands() -> list[tuple[str, str]]:
    return [
        (title(page), command)
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "console"
        for command in block.commands
    ]


@pytest.mark.parametrize(("page", "command"), console_commands())
def test_commands_exist_with_the_options_shown(page: str, command: str) -> None:
    program, *arguments = shlex.split(command, comments=True)
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in arguments:
            assert f".PHONY: {target}\n" in makefile, f"{page}: {command}"
    elif program == "taskito":
        check_command(main, arguments, f"{page}: {command}")
    else:
        assert (program, *arguments) == ("pip", "install", "."), f"{page}: {command}"


def check_command(command: click.Command, arguments: list[str], where: str) -> None:
    """Follow the names of subcommands, then look each option up; click says what takes a value."""
    context = click.Context(command)
    while isinstance(command, click.Group):
        assert arguments, f"{where}: a subcommand is missing"
        found = command.get_command(context, arguments.pop(0))
        assert found is not None, f"{where}: there is no such command"
        command, context = found, click.Context(found)
    options = {name: option for option in command.params for name in option.opts}
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-"):
            assert argument in options, f"{where}: there is no option {argument}"
            option = options[argument]
            if not (isinstance(option, click.Option) and option.is_flag):
                option.type_cast_value(context, next(rest))


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_run_mark_stands_before_a_console_block(page: Path) -> None:
    marks = page.read_text(encoding="utf-8").splitlines().count(RUN)
    assert marks == sum(block.run and block.language == "console" for block in blocks_of(page))
