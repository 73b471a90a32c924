"""Which language a text is in, by its function words.

Short frequent words tell languages apart as well as letter trigrams do from about 15 words on, and are easier to check
(Grefenstette 1995, Comparing two language identification schemes, JADT). Here a word counts for a language if it is in
its list and in no list of another, so that "de" or "die" alone decides nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from envs.text_traits.trait import TextTrait

_LISTS = {
    "en": "the of and to is in that it was for on are with as his they at be this from have or by one had not "
    "but what all were when we there can an your which their said if do will each about how up out them "
    "then she these so would her him into has more could no than been who its now did get come comes does "
    "you he my",
    "fr": "le la les de des du et est un une que qui dans en pour pas sur au aux avec ce cette ces il elle ils "
    "elles je nous vous se ne plus par son sa ses leur leurs mais ou où donc sont être a ont été c d l qu "
    "n s j y même aussi après vient font fait comme tout tous très bien peut",
    "es": "el la los las de del y es un una que en para por no con se su sus al lo como más pero o si son está "
    "ser ha han fue muy también cuando donde después viene este esta estos estas yo nosotros ella ellos "
    "qué cuál",
    "de": "der die das und ist in den von zu mit sich des auf für nicht ein eine einen dem es im als auch an "
    "werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über so zum war haben nur "
    "oder aber vor zur bis",
    "it": "il lo la i gli le di del della e è un una che in per non con si da al sono come più ma o anche "
    "questo questa essere ha hanno dopo viene molto dove quando nel nella dei delle ed io noi",
    "pt": "o a os as de do da dos das e é um uma que em para por não com se seu sua ao como mais mas ou são "
    "está ser foi muito também quando onde depois vem este esta no na nos nas eu nós",
}
_WORDS = {language: frozenset(words.split()) for language, words in _LISTS.items()}
_SHARED = Counter(word for words in _WORDS.values() for word in words)
TELLING: Mapping[str, frozenset[str]] = {
    language: frozenset(word for word in words if _SHARED[word] == 1) for language, words in _WORDS.items()
}
"""Language -> the words that are in its list alone."""
_WORD = re.compile(r"[^\W\d_]+")
_ARABIC = re.compile(r"[\u0600-\u06ff]")
LEAST = 0.08
"""Share of a text's words that must be telling ones."""


def language(text: str) -> str:
    """The language of a text: en, fr, es, de, it, pt, ar; empty if its words do not say.

    Most letters Arabic: ar. Otherwise the language with the most telling words, of which there must be at least one in
    twelve words, and more than of any other language.
    """
    words = _WORD.findall(text.lower())
    letters = sum(map(len, words))
    if letters and len(_ARABIC.findall(text)) > letters / 2:
        return "ar"
    counts = {name: sum(word in telling for word in words) for name, telling in TELLING.items()}
    (best, most), (_, second) = sorted(counts.items(), key=lambda item: -item[1])[:2]
    return best if most > second and most >= LEAST * len(words) else ""


FRENCH = TextTrait("french", "the language detector says French", lambda text: language(text) == "fr")
SPANISH = TextTrait("spanish", "the language detector says Spanish", lambda text: language(text) == "es")
GERMAN = TextTrait("german", "the language detector says German", lambda text: language(text) == "de")
