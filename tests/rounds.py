"""How many examples a property test draws where it is not hypothesis' hundred."""

from hypothesis import HealthCheck, settings


def examples(count: int, *suppressed: HealthCheck) -> settings:
    """A decorator: so many examples, as many times more as the profile asks for.

    Args:
        count: in the profile that holds by default.
        suppressed: health checks that this test fails on purpose.
    """
    profile = settings()
    return settings(
        max_examples=count * profile.max_examples // 100,
        suppress_health_check=[*profile.suppress_health_check, *suppressed],
    )
