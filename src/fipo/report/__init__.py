"""Reports: everything here reads run directories and knows nothing of the trainer."""

from fipo.report.next_commands import next_commands
from fipo.report.page import write_report
from fipo.report.summary import summary_table

__all__ = ["next_commands", "summary_table", "write_report"]
