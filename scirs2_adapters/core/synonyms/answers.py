"""The answer to a word of another library, in the words of the adapter that was called."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from ..errors import ArgumentTypeError, did_you_mean
from .tables import ADDED, NAMES, SENTENCES, SENTENCES_OF, WORDS


def unknown_argument(
    call: str, word: str, rule: str, spelled: Mapping[str, str], known: Iterable[str], where: str = ""
) -> ArgumentTypeError:
    """The error for an argument that a call does not take, to be raised.

    `spelled` has the adapter's word for each core word and option of this optimizer, `known` all words to be listed.
    """
    listed = list(known)
    hint = meant(word, rule, spelled, listed)
    return ArgumentTypeError(f"`{call}` has no argument `{word}`{where}.{hint} It takes: {', '.join(listed)}.")


def meant(word: str, rule: str, spelled: Mapping[str, str], known: Iterable[str] = ()) -> str:
    """What to append to a message about an unknown argument, with its leading space; nothing if it is like no word."""
    exact = _spelling(word.casefold(), spelled)
    sentence = SENTENCES_OF.get(rule, {}).get(word.casefold(), "" if exact else SENTENCES.get(word.casefold(), ""))
    if exact or sentence:
        return (f" Did you mean {exact}?" if exact else "") + (f" {sentence}" if sentence else "")
    answers = {w: spelling for w in (*WORDS, *spelled) if (spelling := _spelling(w, spelled))}
    answers |= {w.casefold(): f"`{w}`" for w in known}
    close = difflib.get_close_matches(word.casefold(), answers, n=1)
    return f" Did you mean {answers[close[0]]}?" if close else ""


def _spelling(word: str, spelled: Mapping[str, str]) -> str:
    """The adapter's word, or words, for a word of another library or of the core; empty if there is none."""
    for core in (word, *WORDS.get(word, ())):
        parts = core.split(" ")
        if all(part in spelled for part in parts):
            return " and ".join(f"`{w}`" for w in dict.fromkeys(spelled[part] for part in parts))
    return ""


def similar_name(name: str, known: Iterable[str]) -> str:
    """What to append to a message about an unknown optimizer: as `did_you_mean`, by other libraries' names too."""
    listed = list(known)
    plain = _plain(name, listed)
    return did_you_mean(NAMES.get(plain, plain), listed) or did_you_mean(name, listed)


def similar_or_all(name: str, known: Iterable[str]) -> str:
    """What to append to a message about an unknown optimizer: the name that is like it, or else all names."""
    listed = list(known)
    guess = similar_name(name, listed)
    return f"{guess} `scirs2_adapters.names()` lists all." if guess else f" There are: {', '.join(listed)}."


def _plain(name: str, known: Iterable[str]) -> str:
    """The name without separators and without what other libraries add to it."""
    plain = "".join(c for c in name.casefold() if c.isalnum())
    for added in ADDED:
        if plain in known or plain in NAMES:
            break
        plain = plain.replace(added, "") or plain
    return plain
