"""DCO's loss and factor with hundreds of digits, from the definitions."""

from decimal import Decimal, localcontext

DIGITS = 700
"""More than twice as many as 1 - 1e-300 needs."""


def dco(log_p: float, n: int) -> tuple[float, float, float]:
    """-ln(1 - (1-p)^n), n p (1-p)^(n-1) / (1 - (1-p)^n) and -n ln(1-p), for p = exp(log_p) exactly."""
    with localcontext() as context:
        context.prec = DIGITS
        p = Decimal(log_p).exp()
        hit = 1 - (1 - p) ** n
        return float(-hit.ln()), float(n * p * (1 - p) ** (n - 1) / hit), float(-n * (1 - p).ln())
