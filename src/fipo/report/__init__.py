"""Reports: everything here reads run directories and knows nothing of the trainer."""

from fipo.report.page import write_report
from fipo.report.summary import summary_table

__all__ = ["summary_table", "write_report"]
