"""`nas latency`: measure subnets, calibrate a machine, fit and show predictors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from nas.commands.common import JsonOption, SupernetOption, confine, load_model, read_subnet
from nas.commands.console import counting, err, out, print_json, table
from nas.commands.options import verb
from search_spaces import get_space
from search_spaces.files import write_json

if TYPE_CHECKING:
    from evaluators.costs.latency.calibration import LatencyCalibration
    from evaluators.costs.latency.measure import Timings

__all__ = ["app"]

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Measure and predict the latency of exported subnets."
)
TargetOption = Annotated[str, typer.Option(help="Such as onnxruntime,threads=1,seconds=2; or a preset.")]


@verb(app, example="nas latency measure subnet.json --target onnxruntime,threads=1")
def measure(
    subnets: Annotated[
        list[Path] | None, typer.Argument(help="JSON files of subnets; default: smallest, middle and largest.")
    ] = None,
    supernet: SupernetOption = "hubert-tiny",
    target: TargetOption = "torch",
    out_: Annotated[Path | None, typer.Option("--out", help="JSON file to write.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure exported subnets in turns, with a reference in every round."""
    from evaluators.costs.latency.measure import measure as measured
    from evaluators.costs.latency.target import Target, machine

    on = Target.parse(target)
    on.check_here()
    model = load_model(supernet, "cpu")
    space = model.space
    values = [read_subnet(file, space) for file in subnets or []]
    names = [str(file) for file in subnets or []] or ["smallest", "middle", "largest"]
    chosen = values or [space.smallest, space.middle, space.largest]
    with counting("measuring") as on_progress:
        timings = measured(model, chosen, on, shipped=True, on_progress=on_progress)
    record = {"machine": machine(on.device), "versions": on.versions(), **timings.to_dict()}
    if out_ is not None:
        write_json(out_, record)
    if json:
        print_json({**record, "warnings": timings.warnings()})
    else:
        _show_timings(timings, names, str(on))


def _show_timings(timings: Timings, names: list[str], target: str) -> None:
    columns = ("subnet", "ms", "± (95 %)", "of the reference", "plain median")
    shown = table(f"latency on {target}", columns, numeric=columns[1:])
    for name, ms, error, raw in zip(names, timings.ms, timings.error, timings.raw_ms, strict=True):
        shown.add_row(name, f"{ms:.3f}", f"{error:.1%}", f"{ms / timings.reference_ms:.3f}", f"{raw:.3f}")
    out.print(shown)
    out.print(f"reference: the middle subnet, {timings.reference_ms:.3f} ms; {timings.rounds} rounds")
    out.print(f"differences under {timings.indistinguishable:.1%} cannot be resolved on this machine now")
    for warning in timings.warnings():
        err.print(f"note: {warning}", soft_wrap=True)


@verb(app, example="nas latency calibrate --supernet hubert-tiny --target onnxruntime,threads=1")
def calibrate(
    supernet: SupernetOption = "hubert-tiny",
    target: TargetOption = "torch",
    measurements: Annotated[
        int | None, typer.Option(help="Subnets to measure, 12 to 200; default: 100, fewer where a network is slow.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="TOML file of a sub-space of the supernet's space.")] = None,
    out_: Annotated[
        Path | None, typer.Option("--out", help="File to write; default: the one that searches look for.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure this machine, so that latencies are predicted with a bound. Searches do it themselves when needed."""
    from evaluators.costs.latency.calibration import calibrate_latency, latency_calibration_file
    from evaluators.costs.latency.target import Target

    on = Target.parse(target)
    on.check_here()
    model = load_model(supernet, "cpu")
    chosen = confine(model, space)
    with counting("calibrating") as on_progress:
        made = calibrate_latency(model, on, measurements, on_progress=on_progress)
    _show_calibration(made, made.save(out_ or latency_calibration_file(chosen, on)), json)


@verb(app, example="nas latency fit --csv measurements.csv")
def fit(
    csv: Annotated[Path, typer.Option(help="One row a network: its choices in each layer, and latency_ms.")],
    space: Annotated[str | None, typer.Option(help="Space of the rows: embed_dim, heads_1.., ffn_ratio_1..")] = None,
    json: JsonOption = False,
) -> None:
    """Fit the same predictor to measurements of any space, and report its error on rows that it was not fitted to."""
    from evaluators.costs.latency.model import fit_csv

    result = fit_csv(csv, None if space is None else get_space(space))
    if json:
        print_json(result)
        return
    columns = ("MAPE", "P95", "Kendall tau", "over the bound", "bound: mean +")
    shown = table(f"{csv}: {result['rows']} rows, each predicted from the others", columns, numeric=columns)
    shares = [f"{result[key]:.2%}" for key in ("mape", "p95")]
    shown.add_row(*shares, f"{result['tau']:.3f}", f"{result['over']:.1%}", f"{result['margin']:.2%}")
    out.print(shown)


@verb(app, example="nas latency show")
def show(
    file: Annotated[Path | None, typer.Argument(help="A calibration; default: list those of this machine.")] = None,
    json: JsonOption = False,
) -> None:
    """Show a calibration: where it was made, how well it predicts, and what each choice costs."""
    from evaluators.costs.latency.calibration import LatencyCalibration, latency_calibrations

    if file is not None:
        _show_calibration(LatencyCalibration.load(file), file, json)
        return
    kept = latency_calibrations()
    if json:
        print_json([str(each) for each in kept])
        return
    for each in kept:
        out.print(str(each), soft_wrap=True, highlight=False)
    if not kept:
        out.print("no calibrations yet: nas latency calibrate")


def _show_calibration(calibration: LatencyCalibration, file: Path, json: bool) -> None:
    summary = calibration.summary()
    if json:
        print_json({"file": str(file), **summary})
        return
    shown = Table(title=f"calibration {file}", show_header=False, title_justify="left")
    shown.add_row("space, target", f"{calibration.space.name}, {calibration.target}")
    shown.add_row("machine", ", ".join(f"{key} {value}" for key, value in calibration.machine.items()))
    shown.add_row("versions", ", ".join(f"{key} {value}" for key, value in calibration.versions.items()))
    shown.add_row("measured", f"{summary['measurements']} subnets, {calibration.made}")
    shown.add_row("reference", f"the middle subnet, {summary['reference_ms']:.3f} ms")
    shown.add_row("error of a measurement", f"± {summary['measurement_error']:.2%} (95 %)")
    shown.add_row("error of a prediction", f"{summary['left_out_mape']:.2%} on average, of subnets left out of the fit")
    shown.add_row("upper bound", f"prediction + {summary['margin']:.2%}, kept by {summary['confidence']:.1%}")
    shown.add_row("fastest, slowest", " – ".join(f"{ms:.2f} ms" for ms in summary["range_ms"]))
    out.print(shown)
    rows = summary["layer_ms"]
    dims = [str(row["embed_dim"]) for row in rows]
    title = "milliseconds of a layer, by embed dim; and of everything else"
    costs = table(title, ("heads, FFN ratio", *dims), numeric=dims)
    for kind in rows[0]["ms"]:
        costs.add_row(kind, *(f"{row['ms'][kind]:.3f}" for row in rows))
    costs.add_row("everything else", *(f"{row['rest_ms']:.3f}" for row in rows))
    out.print(costs)
    for warning in calibration.timings.warnings():
        err.print(f"note: {warning}", soft_wrap=True)
