"""The demo's finance: annual reports, market notes and loan papers."""

from edgeprune.demo.voices import Genre, Section, Voice, words

__all__ = ["FINANCE"]

_ANNUAL = Genre(
    title="Annual report {year}: {entity}",
    sections=(
        Section(
            heading="The year",
            sentences=(
                "This is the report of {entity} for {year}.",
                "Turnover [rose|fell] to {amount} thousand crowns, and profit came to {other_amount} thousand crowns.",
                "The {product} business was {quality}, the {instrument} business was {quality}.",
                "{p}, who keeps the books, calls {year} a {quality} year.",
                "In {month} the demand for {product} grew {manner}.",
                "{count} new shops were opened in {town}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="Accounts",
            sentences=(
                "The {instrument} was written off {manner}.",
                "Of the {other_amount} thousand crowns of profit, {share} percent goes to the owners.",
                "A {quality} {instrument} was bought from {q}, a {q_trade} in {other_town}.",
                "{q_he} was paid {manner}, and {p_first} booked it in {month}.",
                "The {instrument} and the {instrument} are shown at cost.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="Outlook",
            sentences=(
                "{p_last} expects {product} to be {quality} next year.",
                "{p_he} plans to sell the {instrument} to {q_last}.",
                "A turnover of more than {amount} thousand crowns is hoped for.",
                "The {count} shops in {town} will stay.",
                "Owners will again get {share} percent.",
            ),
        ),
    ),
    closing=(
        "Signed for {year} by {p}, {p_trade}, in {town}.",
        "Turnover {amount}, profit {other_amount}, paid out {share} percent; signed {p}.",
    ),
)

_NOTE = Genre(
    title="Market note of {day} {month} {year}",
    part="Item",
    sections=(
        Section(
            heading="The market",
            sentences=(
                "Trade in {product} was {quality} on {day} {month}.",
                "The {instrument} was in demand, while the {instrument} was sold {manner}.",
                "{p}, {p_trade} at the exchange of {town}, speaks of {quality} days.",
                "{p_he} bought {product} for {amount} crowns {manner}.",
                "The rate stood at {share} percent for {count} days.",
            ),
        ),
        Section(
            heading="The share of the day",
            sentences=(
                "Our readers ask about {entity}.",
                "The share opened at {amount} crowns and closed at {other_amount} crowns.",
                "{q}, a {q_trade} from {other_town}, [bought|sold] {count} hundred shares {manner}.",
                "{q_he} calls the {instrument} {quality}.",
                "With {product} at a {quality} price, {share} percent is not much.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="Advice",
            sentences=(
                "{p_last} would hold the share up to {other_amount} crowns.",
                "{q_last}, on the other side, would sell it {manner}.",
                "{q_he} fears a {quality} {instrument}.",
                "Whoever owns {product} should wait for {share} percent.",
                "Next week {p_first} writes from {town} again.",
            ),
            tells_facts=True,
        ),
    ),
    closing=(
        "Note of {day} {month} by {p}, {p_trade}, with thanks to {q} of {other_town}.",
        "The share closed at {other_amount} crowns on {day} {month} {year}.",
    ),
)

_LOAN = Genre(
    title="Loan paper number {number} for {q}",
    part="Article",
    sections=(
        Section(
            heading="The loan",
            sentences=(
                "The bank of {town} lends {amount} crowns to {q}, {q_trade} in {other_town}.",
                "The loan bears {share} percent and runs for {count} years from {month} {year}.",
                "{q_he} wants to trade in {product} {manner}.",
                "For the bank signs {p}, {p_trade}.",
                "{p_he} has known {q_first} for {count} years and calls {q_him} {quality}.",
            ),
        ),
        Section(
            heading="Security",
            sentences=(
                "As security {q_last} gives shares of {entity}.",
                "The {instrument} of {q_first} is {quality} and is not taken.",
                "{p_last} has looked at the {instrument} {manner}.",
                "The shares are worth {other_amount} crowns, the loan is {amount} crowns.",
                "If the price of {product} falls, {q_he} must bring a {quality} {instrument}.",
            ),
            tells_facts=True,
        ),
        Section(
            heading="Payment",
            sentences=(
                "{q_first} pays {share} percent every year on {day} {month}.",
                "{q_he} may pay back the {amount} crowns {manner}.",
                "If {q_he} does not pay, the bank of {town} sells the shares {manner}.",
                "The {q_trade} bears the cost of the {instrument}.",
                "{p_first} keeps the paper with the number {number}.",
            ),
        ),
    ),
    closing=(
        "Loan {number} over {amount} crowns at {share} percent: {q} owes, {p} signs.",
        "Done in {town} between {p}, {p_trade}, and {q}, {q_trade}.",
    ),
)

FINANCE = Voice(
    entity_noun="company",
    register_title="Register of companies",
    trades=words(
        "broker, banker, clerk, grocer, trader, cashier, jeweller, shipper, merchant, dealer, treasurer,"
        "importer, printer,"
        "brewer, builder, farmer, agent, steward, teller, bookkeeper"
    ),
    fixed_words={
        "product": words(
            "copper, cotton, coffee, wheat, tin, coal, silk, timber, wool, cocoa, pepper, zinc, barley, indigo,"
            "linen, tea"
        ),
        "share": tuple(str(share) for share in range(2, 19)),
    },
    loose_words={
        "instrument": words(
            "bond, warrant, dividend, mortgage, annuity, option, ledger, reserve, balance, pension, invoice, premium,"
            "voucher, deposit, overdraft, stock, tariff, futures contract, credit line, treasury bill"
        ),
    },
    genres=(_ANNUAL, _NOTE, _LOAN),
)
