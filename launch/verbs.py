"""The verbs of the command line that have a module of their own. None of them imports anything heavy before it runs."""

from __future__ import annotations

import typer

from launch.audit.verbs import audit, lead
from launch.check_model.verb import check_model
from launch.compare.verb import compare
from launch.directions.verb import directions
from launch.hub.export import export
from launch.hub.push import push
from launch.misalignment.verb import misalignment
from launch.monitoring.verb import belief, probe
from launch.preference.verb import preference
from launch.relearn.verb import relearn
from launch.report.verbs import power, preregister
from launch.sandbag.verb import sandbag
from launch.scaffold.verb import new, schema
from launch.validate.verb import validate
from launch.viewer.verb import view


def add_verbs(app: typer.Typer) -> None:
    """Add them to the command line, in the order in which its help lists them."""
    app.command()(new)
    app.command()(schema)
    app.command("check-model")(check_model)
    app.command()(directions)
    app.command()(relearn)
    app.command()(sandbag)
    app.add_typer(probe, name="probe")
    app.add_typer(preference, name="preference")
    app.command()(belief)
    app.command()(misalignment)
    app.command()(validate)
    app.command()(audit)
    app.command()(lead)
    app.command()(compare)
    app.command()(export)
    app.command()(push)
    app.command()(power)
    app.command()(preregister)
    app.command()(view)
