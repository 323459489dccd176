"""Property tests have no deadline: how long an example takes says more about what else the machine does.

Several workers (test.sh) take the files with slow tests first, so that none of them is left over for one worker at the end.
"""

import os

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.load_profile("here")


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)
