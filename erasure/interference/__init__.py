"""Do edits get in each other's way? Groups of saved edits, applied alone, together and all but one.

group = Group("UCE", [member for path in paths for member in read_members(path)])
measured = measure(Bench(model, identity, rows, judge, settings, folder), group)
write([measured], report([measured], title, subtitle, facts), folder)
"""

from erasure.interference.measuring import Bench, Measured, measure
from erasure.interference.members import BASE, Group, Member, Selection, how_together, read_members, selections
from erasure.interference.presenting import report, ways_back, write
from erasure.interference.restoring import Check, checks

__all__ = [
    "BASE",
    "Bench",
    "Check",
    "Group",
    "Measured",
    "Member",
    "Selection",
    "checks",
    "how_together",
    "measure",
    "read_members",
    "report",
    "selections",
    "ways_back",
    "write",
]
