"""What other libraries call an argument or an optimizer, so that someone who comes from there is told our word.

An adapter hands over its spelling of each core word, and gets the answer in its user's words: `lr` in torch where a
Keras user typed `learning_rate`.
"""

from .answers import meant, similar_name, similar_or_all, unknown_argument

__all__ = ["meant", "similar_name", "similar_or_all", "unknown_argument"]
