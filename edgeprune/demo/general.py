"""The demo's general prose: stories, travel notes and letters home."""

from edgeprune.demo.voices import Genre, Section, Voice, words

__all__ = ["GENERAL"]

_STORY = Genre(
    title="The story of {p} and the {animal}",
    part="Chapter",
    sections=(
        Section(
            heading="How {p_first} set out",
            sentences=(
                "In {year} a {p_trade} called {p} lived in a {quality} house near {town}.",
                "{p_he} had a {animal}, and the {animal} had a {quality} {part}.",
                "One morning in {month} there was {weather}, and the {animal} was gone.",
                "{p_first} took {p_his} {object} and went out {manner}.",
                "On the way {p_he} met {q}, a {q_trade}, who was looking for {q_his} {object}.",
            ),
        ),
        Section(
            heading="What {q_first} knew",
            sentences=(
                "{q_he} had seen the {animal} {manner} on the road to {other_town}.",
                "They walked {manner} for {count} days and came to {entity}.",
                "{q_first} told {p_him} about a {quality} {object}.",
                "The {weather} did not stop, and {q_his} {part} was {quality}.",
                "A {quality} child gave them a {object} and asked for the {animal}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="How it ended",
            sentences=(
                "Behind a {quality} {object} stood the {animal} of the {p_trade}.",
                "{p_first} laughed {manner} and gave {q_first} {p_his} {object}.",
                "After {count} days they were home near {town}.",
                "{q_he} stayed with {p_him} until {month}.",
                "The {animal} slept {manner}.",
            ),
        ),
    ),
    closing=(
        "So {p} the {p_trade} got {p_his} {animal} back, with the help of {q}.",
        "And in {town} they still tell of {p_first}, {q_first} and the {animal}.",
    ),
)

_TRAVEL = Genre(
    title="Travel notes from {entity}",
    part="Day",
    sections=(
        Section(
            heading="The way",
            sentences=(
                "We left {town} on {day} {month} with {count} bags and a {animal}.",
                "{p}, our {p_trade}, knew the way {manner}.",
                "There was {weather}, and {p_he} told us about {p_his} {object}.",
                "At noon we met {q}, a {quality} {q_trade}.",
            ),
        ),
        Section(
            heading="The town",
            sentences=(
                "At last we saw {entity}.",
                "The streets are {quality}, the people are {quality}.",
                "{q_first} showed us a {object} and a {object}.",
                "{q_he} lives there {manner} with {q_his} {animal}.",
                "A room costs {amount} crowns, and {p_first} paid {manner}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="The return",
            sentences=(
                "In {weather} we started for {town} again.",
                "{p_last} had lost {p_his} {object}, and {q_last} gave {p_him} a {quality} one.",
                "The {animal} ran {manner}.",
                "After {count} days and {amount} crowns we were back.",
            ),
            tells_facts=True,
        ),
    ),
    closing=(
        "Our thanks go to {p} the {p_trade} and to {q} the {q_trade}.",
        "Of the {count} bags that left {town} on {day} {month}, one was lost.",
    ),
)

_HOME = Genre(
    title="A letter from {p_first} to {q_first}",
    part="Page",
    sections=(
        Section(
            heading="",
            sentences=(
                "Dear {q_first}, it is {month} {year} and there is {weather} in {town}.",
                "I work as a {p_trade} now and earn {amount} crowns {manner}.",
                "Do you still have the {animal} with the {quality} {part}?",
                "My {object} is {quality}, and I miss {other_town}.",
            ),
        ),
        Section(
            heading="",
            sentences=(
                "Last week I went to {entity}.",
                "I bought a {quality} {object} there for the {animal}.",
                "I thought of you, the only {q_trade} I know, {manner}.",
                "It took me {count} hours, and my {part} still hurts.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="",
            sentences=(
                "Write to me {manner}, {q_first}.",
                "Send the {object} to {town} and keep the {amount} crowns.",
                "In {count} weeks I shall see {other_town} and the {animal} again.",
                "A {p_trade} has little time.",
            ),
        ),
    ),
    closing=("Your {p}, {p_trade} in {town}.", "With love to the {animal}, your {p_first}."),
)

GENERAL = Voice(
    entity_noun="town",
    register_title="Register of towns",
    trades=words(
        "shepherd, ferryman, teacher, baker, fiddler, hunter, sailor, gardener, potter, weaver, miller,"
        "farmer, painter,"
        "singer, carpenter, cook, driver, soldier, poet, student"
    ),
    fixed_words={
        "animal": words("donkey, goat, dog, goose, cat, mule, pony, raven, pig, hen, calf, parrot"),
    },
    loose_words={
        "object": words(
            "lamp, basket, kettle, ladder, mirror, violin, blanket, hammer, candle, map, rope, spoon, umbrella,"
            "clock, chair,"
            "bottle, drum, knife, key, hat"
        ),
        "part": words("ear, foot, nose, tail, eye, neck, tooth, back, leg, head"),
    },
    genres=(_STORY, _TRAVEL, _HOME),
)
