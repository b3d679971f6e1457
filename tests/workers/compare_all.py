"""Several comparisons in the same processes, one after the other: their start takes longer than a tiny comparison."""

from __future__ import annotations

import json
import sys

from accelerate import PartialState

from hf_radam import cli
from hf_radam.experiments import command

if __name__ == "__main__":
    leave = PartialState.destroy_process_group
    PartialState.destroy_process_group = lambda self, group=None: None  # the next comparison needs it
    command.write_report_of = lambda folder, output_dir=None: None  # drawn by one process, while the others wait
    for arguments in json.loads(sys.argv[1]):
        assert cli.main(["compare", *arguments]) == 0, arguments
    leave(PartialState())
