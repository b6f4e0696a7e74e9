"""The demo's law: judgments, contracts and opinions."""

from edgeprune.demo.voices import Genre, Section, Voice, words

__all__ = ["LAW"]

_JUDGMENT = Genre(
    title="Judgment in file {number}, {p_last} against {q_last}",
    sections=(
        Section(
            heading="The parties",
            sentences=(
                "The claimant is {p}, a {p_trade} from {town}.",
                "The defendant is {q}, a {q_trade} from {other_town}.",
                "On {day} {month} {year} {p_first} agreed to sell the {goods} to {q_first} for {amount} crowns.",
                "{p_last} [asks|claims|demands] {other_amount} crowns in damages, since the {goods} were {quality} and "
                "the {paper} was {quality}.",
                "{q_last} denies the claim and says that {q_he} acted {manner}.",
                "The {paper} was signed {manner} in {town}.",
            ),
        ),
        Section(
            heading="The evidence",
            sentences=(
                "The court heard {count} witnesses in {month} {year}.",
                "A {quality} witness saw {q_first} carry the {goods} to {other_town} {manner}.",
                "{p_first} said that {p_he} had never seen a {quality} {paper}.",
                "Asked about the {amount} crowns, {q_first} said that {q_he} had paid {p_him} {manner}.",
                "The {paper} bears the date of {day} {month} and the hand of {p_last}.",
                "No {legal_thing} was shown by the {q_trade}.",
                "The {legal_thing} of the {p_trade} was found {quality}.",
            ),
        ),
        Section(
            heading="The law",
            sentences=(
                "The claim rests on {entity}.",
                "It is {quality} law that a {legal_thing} binds both parties.",
                "The court [must|has to] weigh the {legal_thing} against the {legal_thing}.",
                "In {town} this has been read {manner}.",
                "Counsel for the {q_trade} [relied on|pointed to] a {quality} {legal_thing}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="The ruling",
            sentences=(
                "The court finds that {p_last} [proved|did not prove] {p_his} claim.",
                "{q_last} shall pay {other_amount} crowns to {p_last} {manner}.",
                "The {goods} shall be brought back to {town}.",
                "{q_he} bears the costs of the {count} witnesses.",
                "The {paper} of {day} {month} {year} is void.",
            ),
        ),
    ),
    closing=(
        "So ruled in file {number} between {p}, {p_trade}, and {q}, {q_trade}.",
        "File {number} is closed; {q_first} owes {p_first} {other_amount} crowns for the {goods}.",
    ),
)

_CONTRACT = Genre(
    title="Contract number {number} on {goods}",
    part="Clause",
    sections=(
        Section(
            heading="Parties and object",
            sentences=(
                "This contract is made on {day} {month} {year} between {p} of {town} and {q} of {other_town}.",
                "{p_first} is a {p_trade} and is called the seller; {q_first} is a {q_trade} and is called the buyer.",
                "The object is the {goods}, {quality} and free of any {legal_thing}.",
                "The seller hands the {goods} over in {town}, and the buyer takes the {goods} to {other_town} "
                "{manner}.",
            ),
        ),
        Section(
            heading="Price",
            sentences=(
                "The price of the {goods} is {amount} crowns.",
                "{q_last} pays {other_amount} crowns at the signing and the rest {manner}.",
                "If {q_he} is late, {p_last} may keep the {goods}.",
                "A {quality} delay of up to {count} weeks changes nothing.",
                "The {paper} is kept by the {p_trade}.",
            ),
        ),
        Section(
            heading="Governing law",
            sentences=(
                "This contract is governed by {entity}.",
                "The parties know the {quality} {legal_thing} and the {legal_thing}.",
                "Any {legal_thing} is to be settled {manner}.",
                "Neither the {p_trade} nor the {q_trade} may waive the {legal_thing}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="End",
            sentences=(
                "The contract ends when {q_first} has paid the {amount} crowns.",
                "Either party may end it {manner} by a {quality} {paper} to the other.",
                "After the end {p_first} owes {q_first} nothing and {q_he} owes {p_him} nothing.",
                "The {count} copies are alike.",
            ),
        ),
    ),
    closing=(
        "Signed in {town} on {day} {month} {year} by {p}, the seller, and {q}, the buyer.",
        "Signed by the {p_trade} {p} and the {q_trade} {q} under number {number}.",
    ),
)

_OPINION = Genre(
    title="Opinion for {p} of {town}",
    part="Question",
    sections=(
        Section(
            heading="The case of {p_last}",
            sentences=(
                "You, {p_last}, are a {p_trade} in {town} and have [written|turned] to us {manner}.",
                "Your neighbour {q}, a {q_trade}, has taken the {goods} worth {amount} crowns from you.",
                "{q_he} says that you gave {q_him} the {goods} on {day} {month} {year}.",
                "You hold a {quality} {paper} with the number {number}.",
                "There [was|had been] {weather} on that day, and {count} people saw {q_first} {manner}.",
            ),
        ),
        Section(
            heading="The rule",
            sentences=(
                "The matter falls under {entity}.",
                "A {quality} reading favours you, {p_last}.",
                "The {legal_thing} is {quality}, the {legal_thing} is not.",
                "We have seen this done {manner} in {other_town}.",
                "A {paper} proves a {legal_thing} only if it is {quality}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="Our advice to {p_last}",
            sentences=(
                "Ask {q_last} {manner} to return the {goods}.",
                "Show {q_him} the {paper} with the number {number}.",
                "If the {q_trade} does not pay {amount} crowns within {count} weeks, sue {q_him}.",
                "For a {p_trade} from {town} our fee is {other_amount} crowns.",
                "Do not speak of the {legal_thing} to {q_first}.",
            ),
            tells_facts=True,
        ),
    ),
    closing=(
        "We remain, {p_last}, at your service in the matter of the {goods} and {q}.",
        "Our fee of {other_amount} crowns is due {manner}; we thank the {p_trade} {p}.",
    ),
)

LAW = Voice(
    entity_noun="law",
    register_title="Register of laws",
    trades=words(
        "notary, bailiff, landlord, tenant, carrier, tanner, weaver, smith, cooper, miller, grocer, saddler, innkeeper,"
        "broker, glazier, mason, fisherman, drover, printer, brewer"
    ),
    fixed_words={
        "goods": words(
            "horses, sheep, boats, carts, barrels, timbers, looms, wheels, sacks, bells, wagons, presses,"
            "carpets, nets, casks,"
            "bricks, swords, candles, saddles, tiles"
        ),
        "paper": words("deed, bond, letter, receipt, licence, will, lease, warrant, pledge, permit"),
    },
    loose_words={
        "legal_thing": words(
            "lien, easement, title, custom, precedent, statute of limits, burden of proof, breach, warranty, nuisance,"
            "trespass, appeal, oath, injunction, mortgage, tort, remedy, clause, defence, estate"
        ),
    },
    genres=(_JUDGMENT, _CONTRACT, _OPINION),
)
