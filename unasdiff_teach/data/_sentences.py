"""English sentences from a small grammar, for the synthetic voices of the pocket corpus."""

from __future__ import annotations

from random import Random

DETERMINERS = "the a this that every another".split()
ADJECTIVES = (
    "yellow gentle frozen rough bright hollow purple thirsty clever narrow heavy joyful "
    "quiet shallow foreign dusty crooked velvet wealthy ancient modern sour thick vague "
    "early huge awful brief cautious loyal orange pleasant square wooden zealous young"
).split()
NOUNS = (
    "sailor garden thunder village mirror judge voice treasure bridge fox pigeon window "
    "engine doctor shadow vision feather river cloud queen butcher measure soldier jungle "
    "castle kitchen zebra owl beach chair teacher oyster father lamp yacht hammer noise "
    "valley whale ship cousin bottle"
).split()
VERBS = (
    "watched followed carried found pushed heard caught chose measured praised visited "
    "joined enjoyed washed changed drew fixed owned paid sold taught used welcomed threw "
    "shook borrowed covered noticed"
).split()
PREPOSITIONS = "under behind near beyond above beside through around without toward".split()
OPENINGS = (
    "However",
    "Of course",
    "In January",
    "Every evening",
    "Without a doubt",
    "For a while",
    "Last August",
    "By chance",
    "At the harbour",
    "Long ago",
    "Five years later",
    "To be honest",
)
QUESTIONS = "Who Why How When Where".split()


def _noun_phrase(rng: Random, adjective: float = 0.6) -> str:
    words = [rng.choice(DETERMINERS)]
    if rng.random() < adjective:
        words.append(rng.choice(ADJECTIVES))
    words.append(rng.choice(NOUNS))
    if words[0] == "a" and words[1][0] in "aeiou":
        words[0] = "an"
    return " ".join(words)


def _place(rng: Random) -> str:
    return f"{rng.choice(PREPOSITIONS)} {_noun_phrase(rng, 0.3)}"


def _question(rng: Random) -> str:
    word = rng.choice(QUESTIONS)
    if word == "Who":
        return f"Who {rng.choice(VERBS)} {_noun_phrase(rng)} {_place(rng)}?"
    return f"{word} will {_noun_phrase(rng)} be {rng.choice(ADJECTIVES)} {_place(rng)}?"


def _statement(rng: Random) -> str:
    return f"{_noun_phrase(rng)} {rng.choice(VERBS)} {_noun_phrase(rng)}"


def sentence(rng: Random) -> str:
    """One sentence of 6 to 14 words."""
    form = rng.randrange(5)
    if form == 0:
        text = _question(rng)
    elif form == 1:
        text = f"{_statement(rng)} {_place(rng)}."
    elif form == 2:
        text = f"{rng.choice(OPENINGS)}, {_statement(rng)}."
    elif form == 3:
        joint = rng.choice(("and", "but", "while", "because", "until"))
        text = f"{_statement(rng)}, {joint} {_noun_phrase(rng, 0.3)} was {rng.choice(ADJECTIVES)}."
    else:
        count = rng.randrange(3, 99)
        text = f"{count} {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}s {rng.choice(VERBS)} {_noun_phrase(rng)}."
    return text[0].upper() + text[1:]
