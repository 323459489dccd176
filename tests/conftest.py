"""Property tests have no deadline: how long an example takes says more about what else the machine does."""

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.load_profile("here")
