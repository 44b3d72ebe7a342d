"""`nas convert`: a supernet made of a pretrained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.console import out
from nas.commands.options import verb
from search_spaces import NasError, Space, get_space
from search_spaces.files import new_folder
from search_spaces.proposals import PROPOSALS, space_for

__all__ = ["app"]

app = typer.Typer(add_completion=False)


def space_of(source: str, name: str | None) -> Space | None:
    """The space that a user names for a model: of a name or file, or proposed for its network; None for its own."""
    if name in PROPOSALS:
        from supernet import load_supernet

        return space_for(load_supernet(source).space.network, name)
    return None if name is None else get_space(name)


@verb(app, example="nas convert hubert-base/ --audio speech/manifest.jsonl --out ckpt/hubert-base")
def convert(
    source: Annotated[str, typer.Argument(help="Hugging Face folder or org/name on the Hub, .pt file, or supernet.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder to write the supernet to; must be new or empty.")],
    space: Annotated[
        str | None, typer.Option(help="A named space of its network, a TOML file, or coarse, fine or uniform.")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Speech on which importance is measured; default: by magnitude.")
    ] = None,
    sort: Annotated[bool, typer.Option(help="Put heads and FFN units in order of importance.")] = True,
) -> None:
    """Make a supernet whose largest subnet is a given model, most important units first, so that slices start well."""
    from supernet.order import convert as converted

    if audio is not None and not sort:
        raise NasError("--audio has no effect with --no-sort: importance is measured to sort by it")
    with new_folder(out_) as written:
        model = converted(source, written, space_of(source, space), audio, sort)
    ordered = "yes" if sort else "no"
    out.print(
        f"wrote {out_}: space {model.space.name}, {model.space.size:,} subnets, ordered: {ordered}", soft_wrap=True
    )
    out.print("checked: the largest subnet equals the model it was made from")
