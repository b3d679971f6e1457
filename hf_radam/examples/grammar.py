"""A small German-to-English synchronous grammar: a parallel corpus without a download.

Each pair is one abstract clause spelled twice. German has gender, case, the finite verb in second place, separable
prefixes, the perfect and verb-final subordinate clauses; English has one fixed order. Translating therefore takes
agreement and long-distance reordering, not only a dictionary. Limits: third person singular only, and the sentences
are grammatical rather than sensible.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple, TypeVar

Gender = Literal["m", "f", "n"]
Case = Literal["nominative", "accusative", "dative"]
T = TypeVar("T")


class Word(NamedTuple):
    """A word or more, and its translation."""

    german: str
    english: str


class Noun(NamedTuple):
    german: str
    gender: Gender
    english: str
    kinds: str


class Adjective(NamedTuple):
    stem: str
    english: str
    kinds: str


class Preposition(NamedTuple):
    german: str
    english: str
    kinds: str


class Verb(NamedTuple):
    prefix: str
    present: str
    participle: str
    english_present: str
    english_past: str
    kinds: str  # of the object; "" for an intransitive verb, "clause" for one that takes a dass-clause


# A word goes with a noun when they share a kind; "text" can be read and "lid" can be opened.
ANY = "person thing place"

NOUNS = (
    Noun("mann", "m", "man", "person"), Noun("frau", "f", "woman", "person"),
    Noun("vater", "m", "father", "person"), Noun("mutter", "f", "mother", "person"),
    Noun("bäcker", "m", "baker", "person"), Noun("köchin", "f", "cook", "person"),
    Noun("kind", "n", "child", "person"), Noun("mädchen", "n", "girl", "person"),
    Noun("hund", "m", "dog", "thing"), Noun("katze", "f", "cat", "thing"), Noun("pferd", "n", "horse", "thing"),
    Noun("ball", "m", "ball", "thing"), Noun("apfel", "m", "apple", "thing"), Noun("lampe", "f", "lamp", "thing"),
    Noun("brief", "m", "letter", "thing text lid"), Noun("zeitung", "f", "newspaper", "thing text"),
    Noun("buch", "n", "book", "thing text lid"), Noun("koffer", "m", "suitcase", "thing lid"),
    Noun("tür", "f", "door", "thing lid"), Noun("fenster", "n", "window", "thing lid"),
    Noun("baum", "m", "tree", "place"), Noun("brücke", "f", "bridge", "place"),
    Noun("schule", "f", "school", "place"), Noun("haus", "n", "house", "place"),
)  # fmt: skip

ADJECTIVES = (
    Adjective("alt", "old", ANY), Adjective("groß", "big", ANY), Adjective("klein", "small", ANY),
    Adjective("schön", "beautiful", ANY), Adjective("seltsam", "strange", ANY),
    Adjective("jung", "young", "person"), Adjective("müd", "tired", "person"),
    Adjective("klug", "clever", "person"), Adjective("freundlich", "friendly", "person"),
    Adjective("neu", "new", "thing place"), Adjective("rot", "red", "thing place"),
    Adjective("schwer", "heavy", "thing"),
)  # fmt: skip

VERBS = (
    Verb("", "sieht", "gesehen", "sees", "saw", ANY),
    Verb("", "sucht", "gesucht", "seeks", "sought", ANY),
    Verb("", "findet", "gefunden", "finds", "found", ANY),
    Verb("", "kauft", "gekauft", "buys", "bought", "thing"),
    Verb("", "trägt", "getragen", "carries", "carried", "thing"),
    Verb("", "liest", "gelesen", "reads", "read", "text"),
    Verb("auf", "macht", "aufgemacht", "opens", "opened", "lid"),
    Verb("zu", "macht", "zugemacht", "closes", "closed", "lid"),
    Verb("mit", "bringt", "mitgebracht", "brings", "brought", "thing"),
    Verb("ab", "holt", "abgeholt", "fetches", "fetched", "person thing"),
    Verb("ein", "lädt", "eingeladen", "invites", "invited", "person"),
    Verb("an", "ruft", "angerufen", "calls", "called", "person"),
    Verb("", "schläft", "geschlafen", "sleeps", "slept", ""),
    Verb("", "singt", "gesungen", "sings", "sang", ""),
    Verb("", "sagt", "gesagt", "says", "said", "clause"),
    Verb("", "glaubt", "geglaubt", "believes", "believed", "clause"),
)

PREPOSITIONS = (
    Preposition("hinter", "behind", "place"),
    Preposition("neben", "beside", "place"),
    Preposition("vor", "in front of", "place"),
    Preposition("mit", "with", "person"),
)

PLACE_ADVERBS = (Word("hier", "here"), Word("dort", "there"), Word("draußen", "outside"))
# The German perfect becomes the English past, so that "yesterday" can stand beside it. Index: is the clause past?
TIME_ADVERBS = (
    (Word("heute", "today"), Word("jetzt", "now"), Word("oft", "often"), Word("manchmal", "sometimes")),
    (Word("gestern", "yesterday"), Word("neulich", "recently"), Word("damals", "then")),
)
THAT = Word("dass", "that")
ANYTIME = (Word("weil", "because"), Word("obwohl", "although"), Word("während", "while"))
CONJUNCTIONS = ((*ANYTIME, Word("wenn", "when")), (*ANYTIME, Word("als", "when")))

# (case, gender) -> article and ending of the adjective after it. Index: is the noun phrase definite?
DECLENSION: dict[tuple[Case, Gender], tuple[tuple[str, str], tuple[str, str]]] = {
    ("nominative", "m"): (("ein", "er"), ("der", "e")),
    ("nominative", "f"): (("eine", "e"), ("die", "e")),
    ("nominative", "n"): (("ein", "es"), ("das", "e")),
    ("accusative", "m"): (("einen", "en"), ("den", "en")),
    ("accusative", "f"): (("eine", "e"), ("die", "e")),
    ("accusative", "n"): (("ein", "es"), ("das", "e")),
    ("dative", "m"): (("einem", "en"), ("dem", "en")),
    ("dative", "f"): (("einer", "en"), ("der", "en")),
    ("dative", "n"): (("einem", "en"), ("dem", "en")),
}


def _share(kinds: str, others: str) -> bool:
    return not set(kinds.split()).isdisjoint(others.split())


_PLAIN_VERBS = tuple(verb for verb in VERBS if verb.kinds != "clause")
_ADJECTIVES = {noun: tuple(word for word in ADJECTIVES if _share(word.kinds, noun.kinds)) for noun in NOUNS}
# What a verb or a preposition may govern; empty for verbs without a noun phrase as object.
_NOUNS = {
    word.kinds: tuple(noun for noun in NOUNS if _share(word.kinds, noun.kinds)) for word in (*VERBS, *PREPOSITIONS)
}


class NounPhrase(NamedTuple):
    definite: bool
    adjective: Adjective | None
    noun: Noun

    def german(self, case: Case) -> str:
        article, ending = DECLENSION[case, self.noun.gender][self.definite]
        return _join(article, self.adjective and self.adjective.stem + ending, self.noun.german)

    def english(self) -> str:
        words = _join(self.adjective and self.adjective.english, self.noun.english)
        indefinite = "an" if words[0] in "aeiou" else "a"
        return _join("the" if self.definite else indefinite, words)


def sentence_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Draw German-English sentence pairs from the grammar.

    The tokens are lower-case and separated by single spaces; each sentence ends with the token ``.``. A German
    sentence has exactly one translation. A longer draw with the same seed begins with the shorter one.

    Args:
        count: Number of pairs.
        seed: Seed of the draw, at least 0; the same pairs on every platform and Python version.

    Returns:
        ``count`` pairs ``(german, english)``.

    Raises:
        ValueError: If ``count`` or ``seed`` is negative.

    Examples:
        >>> for german, english in sentence_pairs(2, seed=0):
        ...     print(german)
        ...     print(" ", english)
        die seltsame mutter schläft vor dem haus .
          the strange mother sleeps in front of the house .
        damals hat ein mädchen gesagt , dass ein junger mann das rote fenster aufgemacht hat .
          a girl said then that a young man opened the red window .
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    if seed < 0:  # Random drops the sign, so -1 would silently repeat 1
        raise ValueError(f"seed must be at least 0, got {seed}")
    rng = Random(seed)
    clauses = (_draw_clause(rng, past=rng.random() < 0.4) for _ in range(count))
    return [(f"{clause.german} .", f"{clause.english} .") for clause in clauses]


def _draw_clause(rng: Random, past: bool, conjunction: Word | None = None) -> Word:
    """Draw a main clause, or the subordinate clause that ``conjunction`` opens."""
    main = conjunction is None
    # A subordinate clause opens no third one, so it cannot take a verb that needs a dass-clause.
    verb = _pick(rng, VERBS if main else _PLAIN_VERBS)
    subject = _draw_noun_phrase(rng, "person")
    thing = _draw_noun_phrase(rng, verb.kinds) if _NOUNS[verb.kinds] else None
    time = _pick(rng, TIME_ADVERBS[past]) if rng.random() < 0.5 else None
    place = _draw_place(rng) if rng.random() < 0.35 else None
    slots = {
        "subject": subject.german("nominative"),
        "time": time and time.german,
        "object": thing and thing.german("accusative"),
        "place": place and place.german,
    }
    # A German main clause may begin with any of these; English always begins with the subject.
    movable = ["subject"]
    if time is not None:
        movable.append("time")
    if thing is not None and thing.noun.gender == "m":  # only the masculine accusative tells object from subject
        movable.append("object")
    first = _pick(rng, movable)
    subordinate = None
    if verb.kinds == "clause":
        subordinate = _draw_clause(rng, past, THAT)
    elif main and rng.random() < 0.25:
        subordinate = _draw_clause(rng, past, _pick(rng, CONJUNCTIONS[past]))

    if conjunction is None:
        finite, final = ("hat", verb.participle) if past else (verb.present, verb.prefix)
        german = _join(slots.pop(first), finite, *slots.values(), final, subordinate and subordinate.german)
    else:
        final = _join(verb.participle, "hat") if past else verb.prefix + verb.present
        german = _join(",", conjunction.german, *slots.values(), final)
    english = _join(
        conjunction and conjunction.english,
        subject.english(),
        verb.english_past if past else verb.english_present,
        thing and thing.english(),
        place and place.english,
        time and time.english,
        subordinate and subordinate.english,
    )
    return Word(german, english)


def _draw_noun_phrase(rng: Random, kinds: str) -> NounPhrase:
    noun = _pick(rng, _NOUNS[kinds])
    adjective = _pick(rng, _ADJECTIVES[noun]) if rng.random() < 0.5 else None
    return NounPhrase(rng.random() < 0.6, adjective, noun)


def _draw_place(rng: Random) -> Word:
    if rng.random() < 0.3:
        return _pick(rng, PLACE_ADVERBS)
    preposition = _pick(rng, PREPOSITIONS)
    phrase = _draw_noun_phrase(rng, preposition.kinds)
    return Word(_join(preposition.german, phrase.german("dative")), _join(preposition.english, phrase.english()))


def _pick(rng: Random, choices: Sequence[T]) -> T:
    # Python promises the same numbers across versions for random() alone, not for choice().
    return choices[int(rng.random() * len(choices))]


def _join(*words: str | None) -> str:
    return " ".join(word for word in words if word)
