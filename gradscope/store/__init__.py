"""Results kept between commands, in ``.gradscope/`` of the working directory.

Whatever is lost there can be measured again: a store that fails costs time, never a result.

    last_scan.json   the last scan, which the other commands go on from (remembered.py)
    measured.db      every measured snapshot, so that nothing is measured twice (measured.py)
"""

from gradscope.store.file_states import file_states
from gradscope.store.measured import Measured
from gradscope.store.remembered import FOLDER, LAST_SCAN, LastScan, last_scan, remember, state_key
from gradscope.store.whole_file import write_whole

__all__ = [
    "FOLDER",
    "LAST_SCAN",
    "LastScan",
    "Measured",
    "file_states",
    "last_scan",
    "remember",
    "state_key",
    "write_whole",
]
