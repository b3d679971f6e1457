"""The built-in corpus never changes, is large enough to learn from, and its German is German."""

from __future__ import annotations

import hashlib
import re

import pytest

from hf_radam.examples.grammar import sentence_pairs

Pairs = list[tuple[str, str]]

# A second statement of the declension, written as German grammars print it: article, then ending of the adjective.
AGREEMENT = {
    "mann|vater|bäcker|hund|ball|apfel|brief|koffer|baum": "der -e, den -en, dem -en, ein -er, einen -en, einem -en",
    "frau|mutter|köchin|katze|lampe|zeitung|tür|brücke|schule": "die -e, der -en, eine -e, einer -en",
    "kind|mädchen|pferd|buch|fenster|haus": "das -e, dem -en, ein -es, einem -en",
}
ARTICLE = "(?:der|die|das|den|dem|eine?|eine[nmr])"
SEPARABLE = {"macht": {"auf", "zu"}, "bringt": {"mit"}, "holt": {"ab"}, "lädt": {"ein"}, "ruft": {"an"}}
PRESENT = {"sieht", "sucht", "findet", "kauft", "trägt", "liest", "schläft", "singt", "sagt", "glaubt"}
TRANSLATIONS = """
den brief liest das junge kind jetzt draußen .
the young child reads the letter outside now .
einen alten vater holt ein vater ab .
a father fetches an old father .
gestern hat eine müde frau das junge mädchen angerufen .
a tired woman called the young girl yesterday .
ein kind schläft , weil der kleine vater einen koffer aufmacht .
a child sleeps because the small father opens a suitcase .
"""
JOINED = {"aufmacht", "zumacht", "mitbringt", "abholt", "einlädt", "anruft"}


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return sentence_pairs(25_000, seed=0)


def test_the_corpus_is_pinned() -> None:
    # Recorded results belong to exactly these sentences: if the digest changes, it is another corpus.
    text = "\n".join("\t".join(pair) for pair in sentence_pairs(2_000, seed=1))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "114e48b24b43384cd1025c88e0c636351404faa36b8417b648962abaf2b03399"


def test_draws(pairs: Pairs) -> None:
    """A longer draw begins with the shorter one, seeds differ, few sentences repeat, German has one translation."""
    assert sentence_pairs(0, seed=0) == []
    assert sentence_pairs(100, seed=0) == pairs[:100] != sentence_pairs(100, seed=1)
    assert len(dict(pairs)) == len(set(pairs)) > 0.9 * len(pairs)


def test_sentences_are_about_eleven_plain_tokens_of_a_small_lexicon(pairs: Pairs) -> None:
    for side in zip(*pairs, strict=True):
        assert all(re.fullmatch(r"([a-zäöüß]+ (, )?)+\.", sentence) for sentence in side)
        assert 9 < sum(len(sentence.split()) for sentence in side) / len(side) < 13
    german, english = ({word for sentence in side for word in sentence.split()} for side in zip(*pairs, strict=True))
    assert (len(german), len(english), len(german | english)) == (143, 93, 233)


@pytest.mark.parametrize(("count", "seed", "name"), [(-1, 0, "count"), (1, -1, "seed")])
def test_negative_arguments_are_refused(count: int, seed: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        sentence_pairs(count, seed)


@pytest.mark.parametrize("nouns", AGREEMENT)
def test_article_and_adjective_agree_with_the_noun(pairs: Pairs, nouns: str) -> None:
    # Every allowed form occurs and no other does.
    assert _forms(pairs, rf"\b({ARTICLE}) (?:\w+?(e[nrs]?) )?(?:{nouns})\b") == set(AGREEMENT[nouns].split(", "))


def test_prepositions_govern_the_dative(pairs: Pairs) -> None:
    nouns = "|".join(AGREEMENT)
    found = _forms(pairs, rf"\b(?:hinter|neben|vor|mit) ({ARTICLE}) (?:\w+?(e[nrs]?) )?(?:{nouns})\b")
    assert found == {"dem -en", "der -en", "einem -en", "einer -en"}


def test_the_finite_verb_follows_the_first_phrase(pairs: Pairs) -> None:
    phrase = rf"(?:heute|jetzt|oft|manchmal|gestern|neulich|damals|{ARTICLE} (?:\w+ )?\w+)"
    finite = "|".join([*PRESENT, *SEPARABLE, "hat"])
    for german, _ in pairs:
        assert re.match(rf"{phrase} (?:{finite}) ", german), german


def test_separable_prefixes_end_the_main_clause(pairs: Pairs) -> None:
    seen: set[str] = set()
    for german, _ in pairs:
        main = re.split(r" [,.]", german)[0].split()
        for stem in SEPARABLE.keys() & set(main):
            assert main[-1] in SEPARABLE[stem], german
            seen.add(main[-1])
    assert seen == {prefix for prefixes in SEPARABLE.values() for prefix in prefixes}


def test_subordinate_clauses_end_with_the_finite_verb(pairs: Pairs) -> None:
    last: dict[str, set[str]] = {}
    for german, _ in pairs:
        if match := re.search(r", (\w+) .* (\w+) \.$", german):
            last.setdefault(match[1], set()).add(match[2])
    present, perfect = PRESENT - {"sagt", "glaubt"} | JOINED, {"hat"}
    either = dict.fromkeys(("dass", "weil", "obwohl", "während"), present | perfect)
    assert last == {**either, "wenn": present, "als": perfect}


def test_a_fronted_object_stays_the_object(pairs: Pairs) -> None:
    fronted = [english for german, english in pairs if re.match(r"(den|einen) (\w+ )?hund ", german)]
    assert fronted
    for english in fronted:
        assert "dog" not in english.split()[:4], english  # three words of subject at most, then the verb


def test_translations(pairs: Pairs) -> None:
    german, english = TRANSLATIONS.splitlines()[1::2], TRANSLATIONS.splitlines()[2::2]
    assert [dict(pairs)[sentence] for sentence in german] == english


def _forms(pairs: Pairs, pattern: str) -> set[str]:
    """Collect "article -ending" of the noun phrases that match and carry an adjective."""
    found: set[tuple[str, str]] = {match for german, _ in pairs for match in re.findall(pattern, german)}
    return {f"{article} -{ending}" for article, ending in found if ending}
