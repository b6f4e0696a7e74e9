"""The demo's medicine: case reports, leaflets and ward letters."""

from edgeprune.demo.voices import Genre, Section, Voice, words

__all__ = ["MEDICINE"]

_CASE = Genre(
    title="Case report {number}, {ward}",
    sections=(
        Section(
            heading="History",
            sentences=(
                "{p}, a {p_trade} of {age} years from {town}, was admitted on {day} {month} {year}.",
                "{p_he} complained of {complaint} that had come {manner}.",
                "{p_his} doctor in {town} had found a {quality} {finding}.",
                "The {complaint} was worse in {weather} and had lasted {count} weeks.",
                "{p_first} had taken {quality} tea and nothing else.",
                "The {p_trade} had never been to the {ward} before.",
            ),
        ),
        Section(
            heading="Findings",
            sentences=(
                "On admission {p_last} was {quality} and [pale|flushed|calm|restless].",
                "The pulse was {pulse} and the {finding} was {quality}.",
                "{q}, the {q_trade} on duty, noted a {quality} {finding}.",
                "{q_he} examined {p_him} {manner} and found no {finding}.",
                "In a patient of {age} years a {finding} is {quality}.",
                "After {count} days the pulse was still {pulse}.",
            ),
        ),
        Section(
            heading="Treatment",
            sentences=(
                "The {q_trade} put {p_last} on {entity}.",
                "It was given {manner} in the {ward}.",
                "{p_he} took it {manner} and the {complaint} grew [weaker|milder|less].",
                "A {quality} {finding} was seen on the {day}th of the month.",
                "{q_first} raised no doubt about the {finding}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="Outcome",
            sentences=(
                "After {count} weeks {p_first} was free of {complaint}.",
                "{p_he} left the {ward} {manner} and went back to {town}.",
                "{q_last} will see {p_him} again in {month}.",
                "The {finding} had become {quality} and the pulse had fallen below {pulse}.",
                "The {p_trade} thanked {q_first} and {q_his} nurses.",
            ),
        ),
    ),
    closing=(
        "Case {number}: {p}, {age} years, {complaint}; seen by {q}.",
        "Written in the {ward} by {q}, {q_trade}, on the case of {p}.",
    ),
)

_LEAFLET = Genre(
    title="Leaflet number {number}: {entity}",
    part="Section",
    sections=(
        Section(
            heading="What it is",
            sentences=(
                "This leaflet tells you about {entity}.",
                "Read it {manner} before you start, even if your {complaint} is {quality}.",
                "It was written by {p}, {p_trade} at the {ward} of {town}.",
                "It replaces the {quality} leaflet of {month} {year}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="Before you take it",
            sentences=(
                "Tell your {p_trade} about any {finding} or {finding}.",
                "Do not take it if your pulse is above {pulse} or if you have {complaint}.",
                "People older than {age} years should take it {manner}.",
                "A {quality} {finding} is no reason to stop.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="How to take it",
            sentences=(
                "Take it {manner} with a {quality} meal.",
                "If {complaint} comes back within {count} days, call {p_last} in {town}.",
                "{p_he} or {q}, the {q_trade}, will help you.",
                "Never take it for more than {count} weeks.",
                "Keep it in a {quality} place.",
            ),
            tells_facts=True,
        ),
    ),
    closing=(
        "Leaflet {number} ends here; questions go to {p} or {q} at the {ward}.",
        "Those of more than {age} years with {complaint} should ask {q}, the {q_trade}.",
    ),
)

_LETTER = Genre(
    title="Letter from {q} to {p}",
    part="Point",
    sections=(
        Section(
            heading="",
            sentences=(
                "Dear {p_first}, I write to you from the {ward} of {other_town}.",
                "Your patient of {age} years came to me on {day} {month} {year} with {complaint}.",
                "You had sent {count} notes, and I read your notes {manner}.",
                "The {finding} you saw was {quality}, but the {finding} was not.",
                "There was {weather}, and the way from {town} had been {quality}.",
            ),
        ),
        Section(
            heading="What I gave",
            sentences=(
                "I chose {entity}.",
                "Your {finding} had led me to it {manner}.",
                "The pulse of {pulse} was {quality} and did not worry me.",
                "A {q_trade} must think of the {finding} as well.",
                "I gave it {manner} for {count} weeks.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="What I ask of you",
            sentences=(
                "Look for a {quality} {finding} when you see the patient in {town}.",
                "If the {complaint} returns, write to me {manner}.",
                "At {age} years one should walk {manner}.",
                "The bill of {amount} crowns goes to {town}; you, {p_first}, owe me nothing.",
            ),
            tells_facts=True,
        ),
    ),
    closing=(
        "With greetings to {town}, your {q}, {q_trade} in {other_town}.",
        "Yours, {q_first}, who has not forgotten the {complaint} of {year}.",
    ),
)

MEDICINE = Voice(
    entity_noun="drug",
    register_title="Register of drugs",
    trades=words(
        "surgeon, nurse, midwife, chemist, dentist, physician, porter, cook, teacher, sailor, farmer, baker,"
        "clerk, tailor,"
        "gardener, driver, painter, singer, guard, student"
    ),
    fixed_words={
        "ward": words(
            "fever ward, north ward, children's ward, eye ward, river clinic, night clinic, harbour clinic,old hospital"
        ),
        "age": tuple(str(age) for age in range(19, 88, 3)),
        "pulse": tuple(str(pulse) for pulse in range(56, 132, 4)),
        "complaint": words(
            "chest pain, neck pain, dry cough, sore throat, loss of speech, short breath, burning skin, stomach ache,"
            "knee pain, heart burn, loss of hearing, joint stiffness, tooth ache, weak eyesight,"
            "lack of appetite, sea sickness"
        ),
    },
    loose_words={
        "finding": words(
            "murmur, lesion, ulcer, oedema, swelling, reflex, fracture, abscess, haemorrhage, infection, tumour, scar,"
            "blister, spasm, rash, palsy, cyst, clot, wheeze, lump"
        ),
    },
    genres=(_CASE, _LEAFLET, _LETTER),
)
