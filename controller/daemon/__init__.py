"""The composition root: builds the other rooms and runs them. Nothing else wires things."""

from controller.daemon.export import export_once
from controller.daemon.once import Report, apply_once, plan_once
from controller.daemon.run import run

__all__ = ["Report", "apply_once", "export_once", "plan_once", "run"]
