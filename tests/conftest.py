"""Settings of all tests."""

from hypothesis import settings

# Machines are shared and noisy: no test fails for being slow.
settings.register_profile("mmneedle", deadline=None)
settings.load_profile("mmneedle")
