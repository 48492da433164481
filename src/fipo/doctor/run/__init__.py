"""`fipo doctor RUN`: what is wrong with a run, from its run directory, during it or afterwards."""

from fipo.doctor.run.examination import examine
from fipo.doctor.run.history import History
from fipo.doctor.run.show import show_examination, standing
from fipo.doctor.run.watch import watch
from fipo.telemetry.progress import PatientConsole
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.run_lock import is_locked

__all__ = ["check_up", "watch"]


def check_up(run: RunDirectory) -> int:
    """Print what is wrong with a run; 1 if there is a problem, else 0.

    Raises UserError for metrics that no run wrote.
    """
    console = PatientConsole()
    running = is_locked(run.path)
    history = History(run, run.read_metrics())
    console.print(f"{run.path}: {standing(history, running=running)}", soft_wrap=True)
    examination = examine(history)
    show_examination(console, examination)
    return 1 if examination.failing else 0
