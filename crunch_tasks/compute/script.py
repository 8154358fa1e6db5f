"""A project's script: which command runs it, or exactly why none can.

The script is kept byte for byte as its project has it, so what would make it fail in puzzling ways (Windows line ends,
a missing interpreter) is refused with the remedy instead of being mended.

    the file's beginning                 what runs it
    nothing but white space              refused: empty
    UTF-16, or a NUL byte in a script    refused: not a text
    `#!` after a UTF-8 byte order mark   refused: save without it
    first line ends in CR LF             refused: save with Unix line ends
    `#!` and nothing else                refused: names no interpreter
    `#!INTERPRETER [ARGUMENT]`           INTERPRETER [ARGUMENT] SCRIPT, as the kernel would, executable or not
    anything else                        bash SCRIPT
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from crunch_tasks.compute.notes import failure_note
from crunch_tasks.compute.process import run
from crunch_tasks.errors import WorkflowFailed

HEAD_BYTES = 8192
"""How much of a script is looked at."""


def interpreter(head: bytes) -> tuple[str, ...]:
    """The words before the script's path in its command, by its first `HEAD_BYTES` bytes (see the table above).

    Raises WorkflowFailed when the script cannot be run as it is.
    """
    if not head.strip():
        raise WorkflowFailed("The script is empty. Give the project a workflow.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise WorkflowFailed("The script is saved as UTF-16, which no shell reads. Save it as UTF-8.")
    bom = head.startswith(b"\xef\xbb\xbf")
    text = head.removeprefix(b"\xef\xbb\xbf")
    first, newline, _ = text.partition(b"\n")
    shebang = first.startswith(b"#!")
    # A script with a shebang may carry binary data further down, as self-extracting ones do.
    if b"\x00" in (first if shebang else head):
        kind = "a compiled program" if head.startswith(b"\x7fELF") else "binary data (it holds NUL bytes)"
        raise WorkflowFailed(
            f"The script is {kind}, not a text. Put the program into the dataset or an image and run it."
        )
    if bom and shebang:
        raise WorkflowFailed(
            'The script begins with a UTF-8 byte order mark, which hides its "#!" line. Save it without one.'
        )
    if newline and first.endswith(b"\r"):
        raise WorkflowFailed(
            "The script has Windows line ends (CR LF), which shells take for part of each command. "
            "Save it with Unix line ends (LF), for example with: sed -i 's/\\r$//' FILE"
        )
    if not shebang:
        return ("bash",)
    words = first[2:].decode("utf-8", "surrogateescape").strip().split(maxsplit=1)
    if not words:
        raise WorkflowFailed('The script\'s first line "#!" names no interpreter. Write, for example: #!/bin/bash')
    return tuple(word.strip() for word in words)


def script_command(path: Path, search_path: str | None = None) -> list[str]:
    """The command that runs the script at `path`, with absolute paths; `search_path` is the workflow's PATH.

    Raises WorkflowFailed, with the remedy, when the script or its interpreter cannot be used.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - links in it stay, as the workflow knows them
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise WorkflowFailed(f"The script {path} cannot be read: {error.strerror}.") from error
    program, *argument = interpreter(head)
    wanted = argument[0] if Path(program).name == "env" and argument and " " not in argument[0] else ""
    if wanted and not wanted.startswith("-") and "=" not in wanted and not shutil.which(wanted, path=search_path):
        raise WorkflowFailed(f'The script wants "{wanted}" (its first line), which is not installed or not on PATH.')
    if program == "bash":
        program = shutil.which("bash", path=search_path) or "/bin/bash"
    if not os.path.isabs(program):  # noqa: PTH117
        raise WorkflowFailed(
            f'The script\'s first line names the interpreter "{program}" without its folder. '
            f"Write: #!/usr/bin/env {Path(program).name}"
        )
    if not shutil.which(program):
        raise WorkflowFailed(
            f"The script's interpreter {program} (its first line) is not installed here. "
            f"Install it, or write: #!/usr/bin/env {Path(program).name}"
        )
    return [program, *argument, str(path)]


def run_script(
    script: Path,
    *,
    directory: Path,
    env: Mapping[str, str],
    log: Path,
    timeout_s: float | None,
    check: Callable[[], None],
) -> None:
    """Run `script` in `directory` to its end; see `process.run` for the rest.

    Raises WorkflowFailed, whose message is the note of the Fail, unless the script ends with exit code 0 in time.
    """
    argv = script_command(script, env.get("PATH"))
    outcome = run(argv, cwd=directory, env=env, log=log, timeout_s=timeout_s, check=check)
    if not outcome.ok:
        raise WorkflowFailed(failure_note("The script", outcome, timeout_s))
