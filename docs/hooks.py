"""Pages that mkdocs makes at build time: the command line from typer, and files of the repository's root.

The command line is imported and asked, so that reference/cli.md cannot fall behind the code.
"""

import re
import sys
from pathlib import Path

import typer
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ROOT_FILES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config) -> Files:
    """Adds the generated pages."""
    files.append(File.generated(config, "reference/cli.md", content=command_line()))
    pages = {file.src_uri for file in files} | ROOT_FILES.keys()
    for page, name in ROOT_FILES.items():
        file = ROOT / name
        text = file.read_text(encoding="utf-8") if file.is_file() else f"# {file.stem.capitalize()}\n\n`make test`\n"
        files.append(File.generated(config, page, content=_rebased(text, pages)))
    return files


def command_line() -> str:
    """The page of all commands: usage, example, and the options in their groups."""
    sys.path.insert(0, str(ROOT))
    import cli

    group = typer.main.get_command(cli.app)
    commands = [_command(group.get_command(None, name), f"nas {name}") for name in cli.COMMANDS]
    return "\n".join(
        [
            "# Command line",
            "",
            "Generated from the code. `nas COMMAND --help` prints the same. Options that have no effect are refused; "
            "a mistyped option gets a suggestion. `nas --version` prints the version.",
            "",
            *commands,
        ]
    )


def _command(command, path: str, level: int = 2) -> str:
    context = typer.Context(command, info_name=path)
    usage = " ".join(["$", path, *command.collect_usage_pieces(context)])
    lines = [f"{'#' * level} {path}", "", command.help or "", "", "```console", usage, "```", ""]
    if command.epilog:
        lines += [f"Example: `{_plain(command.epilog.removeprefix('Example: '))}`", ""]
    for title, rows in _groups(command, context).items():
        lines += [f"| {title} | |", "|---|---|", *rows, ""]
    for name, each in getattr(command, "commands", {}).items():
        lines.append(_command(each, f"{path} {name}", level + 1))
    return "\n".join(lines)


def _groups(command, context) -> dict[str, list[str]]:
    """Rows of a table by the heading that `--help` shows them under; arguments first."""
    groups: dict[str, list[str]] = {}
    for parameter in sorted(command.get_params(context), key=lambda each: each.param_type_name != "argument"):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        default = "Arguments" if parameter.param_type_name == "argument" else "Options"
        name, text = (_plain(each).replace("|", "\\|") for each in record)
        groups.setdefault(parameter.rich_help_panel or default, []).append(f"| `{name}` | {_escaped(text)} |")
    return groups


def _plain(text: str) -> str:
    """Without rich's escapes."""
    return text.replace("\\[", "[")


def _escaped(text: str) -> str:
    return re.sub(r"([*_])", r"\\\1", text.replace("<", "&lt;"))


def _rebased(text: str, pages: set[str]) -> str:
    """Links from the root, seen from docs/; links to what is no page become plain text."""
    names = {name: page for page, name in ROOT_FILES.items()}

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match.groups()
        page = names.get(target, target.removeprefix("docs/"))
        return f"[{label}]({page}{anchor})" if page in pages else label

    return re.sub(r"\[([^\]]+)\]\((?!https?:|mailto:|#)([^)#]+)((?:#[^)]*)?)\)", link, text)
