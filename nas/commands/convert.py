"""`nas convert`: a supernet made of a pretrained model."""

from __future__ import annotations

from dataclasses import replace
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


def space_of(source: str, name: str | None, rotate: bool = False) -> Space | None:
    """The space that a user names for a model: of a name or file, or proposed for its network; None for its own."""
    if name in PROPOSALS:
        from supernet import load_supernet

        network = load_supernet(source).space.network
        return space_for(replace(network, rotated=True) if rotate else network, name)
    return None if name is None else get_space(name)


@verb(app, example="nas convert hubert-base/ --audio speech/manifest.jsonl --out ckpt/hubert-base")
def convert(
    source: Annotated[str, typer.Argument(help="Hugging Face folder or org/name on the Hub, .pt file, or supernet.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder to write the supernet to; must be new or empty.")],
    space: Annotated[
        str | None,
        typer.Option(
            help="A named space of its network, a TOML file, or coarse, fine or uniform. A supernet of ours grows into "
            "one with more choices or of a wider network."
        ),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Speech on which importance is measured; default: by magnitude.")
    ] = None,
    sort: Annotated[bool, typer.Option(help="Put heads and FFN units in order of importance.")] = True,
    compensation: Annotated[
        str | None,
        typer.Option(
            help="What stays of dropped heads and FFN units: regression (what the kept ones predict of them; default), "
            "mean (half the size of the file), or none."
        ),
    ] = None,
    rotate: Annotated[
        bool, typer.Option(help="Make the width elastic too, by the directions that matter on --audio (norms first).")
    ] = False,
) -> None:
    """Make a supernet whose largest subnet is a given model, most important units first, so that slices start well."""
    from supernet.order import convert as converted
    from supernet.order import trained_elastic

    if audio is not None and not sort:
        raise NasError("--audio has no effect with --no-sort: importance is measured to sort by it")
    if compensation is not None and (audio is None or not sort):
        raise NasError("--compensation has no effect without --audio, and none with --no-sort")
    if rotate and (audio is None or not sort):
        raise NasError("--rotate needs speech on which importance is measured: give --audio, and no --no-sort")
    with new_folder(out_) as written:
        model = converted(
            source,
            written,
            space_of(source, space, rotate),
            audio,
            sort,
            rotate=rotate,
            compensation=compensation,
        )
    ordered = "yes" if sort else "no"
    if sort and not rotate and trained_elastic(model):
        ordered = f"{'channels alone' if model.space.elastic_front_end else 'no'}, as its subnets were trained"
    out.print(
        f"wrote {out_}: space {model.space.name}, {model.space.size:,} subnets, ordered: {ordered}", soft_wrap=True
    )
    out.print("checked: the largest subnet equals the model it was made from")
