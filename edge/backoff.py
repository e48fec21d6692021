"""How long to wait before the next try: the one rule for cameras and outputs."""


def backoff_s(attempt: int, first_s: float = 0.1, limit_s: float = 5.0) -> float:
    """Seconds to wait after failed try number `attempt` (0 is the first); doubles up to `limit_s`.

    No jitter: one station talks to one camera and one PLC, there is no crowd to spread out.
    """
    doublings = min(max(attempt, 0), 32)  # bounded, so that a week of tries does not overflow the float
    return min(limit_s, first_s * 2.0**doublings)
