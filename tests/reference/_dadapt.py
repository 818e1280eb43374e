"""How d grows in D-Adaptation: Defazio and Mishchenko, arXiv 2301.07733, as the package dadaptation limits it."""

import math


def grown(d: float, above: float, below: float, growth_rate: float = math.inf) -> float:
    """The new d; the old one while nothing has been learned."""
    return d if below == 0.0 else max(d, min(above / below, d * growth_rate))
