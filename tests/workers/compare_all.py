"""Comparisons without their reports, one after the other in the same processes, whose start takes longer than each."""

from __future__ import annotations

import json
import sys

from accelerate import PartialState

from hf_radam import cli
from hf_radam.experiments import command

if __name__ == "__main__":
    leave = PartialState.destroy_process_group
    PartialState.destroy_process_group = lambda self, group=None: None  # the next comparison needs it
    command.write_report_of = lambda folder, output_dir=None: None
    for arguments in json.loads(sys.argv[1]):
        assert cli.main(["compare", *arguments]) == 0, arguments
    if PartialState().num_processes > 1:
        leave(PartialState())
