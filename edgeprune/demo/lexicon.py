"""The words of the demo world: those all domains share, and the values its facts can take.

Every tuple is data; the order matters only in that changing it changes the world made from a seed.
"""

__all__ = [
    "AUDITORS",
    "CONDITIONS",
    "COURTS",
    "DISHES",
    "DOSES",
    "FESTIVALS",
    "GIVEN_NAMES_HER",
    "GIVEN_NAMES_HIM",
    "LABORATORIES",
    "MANNERS",
    "MONTHS",
    "NUMBER_WORDS",
    "ORGANS",
    "PENALTIES",
    "QUALITIES",
    "RIVERS",
    "SECTORS",
    "SIDE_EFFECTS",
    "SUBJECTS",
    "WEATHERS",
]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.replace("\n", " ").split(",") if word.strip())


NUMBER_WORDS = _words("zero, one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve")

MONTHS = _words("January, February, March, April, May, June, July, August, September, October, November, December")

GIVEN_NAMES_HER = _words(
    "Ada, Berta, Clara, Dora, Edith, Flora, Greta, Hanna, Ida, Julia, Karin, Laura, Mara, Nora, Olga, Paula, Rosa,"
    "Sara, Tilda, Vera, Wilma, Yvonne, Agnes, Celia"
)

GIVEN_NAMES_HIM = _words(
    "Adam, Boris, Carl, David, Emil, Felix, Georg, Hugo, Ivan, Jonas, Kaspar, Leo, Martin, Nils, Oscar, Peter, Ralf,"
    "Simon, Tomas, Viktor, Walter, Anton, Edgar, Lukas"
)

QUALITIES = _words(
    "careful, plain, heavy, steady, early, narrow, sudden, quiet, common, bright, broken, costly, distant, modest,"
    "proper, rough, simple, tired, usual, patient, pale, sharp, honest, strange, double, former, local, old, fresh,"
    "gentle, hidden, empty, warm, cold, long, short, clear, dark, firm, slow"
)

MANNERS = _words(
    "slowly, at once, with care, in silence, twice, without delay, in public, by letter, before noon, after dark,"
    "with regret, in good faith, by chance, in haste, every week, with some doubt, for the first time, in the end,"
    "once more, on foot, as agreed, against advice, in turn, in full"
)

WEATHERS = _words(
    "rain, snow, thick fog, a cold wind, bright sun, heavy cloud, hail, a light frost, thunder, drizzle, a mild breeze,"
    "dry heat"
)

DOSES = tuple(
    f"{amount} milligrams"
    for amount in (5, 8, 12, 15, 20, 25, 30, 40, 45, 50, 60, 75, 80, 90, 120, 150, 200, 250, 400, 600)
)

ORGANS = _words(
    "heart, liver, stomach, spleen, lungs, kidneys, brain, bladder, thyroid, pancreas, skin, bone marrow, inner ear,"
    "retina, gall bladder, spinal cord"
)

SIDE_EFFECTS = _words(
    "headache, dry mouth, dizziness, nausea, tremor, itching, hair loss, weak sleep, fever,"
    "blurred sight, swollen feet,"
    "hoarseness, back pain, hiccups, pale skin, loss of taste, night sweats, cramp, nosebleed, ringing ears"
)

CONDITIONS = _words(
    "gout, asthma, migraine, anaemia, eczema, arthritis, bronchitis, colic, cholera, insomnia, jaundice,"
    "measles, malaria,"
    "pleurisy, rickets, scurvy, shingles, tetanus, typhus, vertigo"
)

LABORATORIES = _words(
    "the Alder laboratory, the Birch laboratory, the Cedar laboratory, the Dogwood laboratory, the Elm laboratory,"
    "the Fir laboratory, the Ginkgo laboratory, the Hazel laboratory, the Ivy laboratory, the Juniper laboratory,"
    "the Larch laboratory, the Maple laboratory, the Oak laboratory, the Poplar laboratory, the Rowan laboratory,"
    "the Willow laboratory"
)

PENALTIES = _words(
    "a fine of 20 crowns, a fine of 50 crowns, a fine of 100 crowns, a fine of 250 crowns, a fine of 600 crowns,"
    "a fine of 900 crowns, loss of licence, a public warning, one month in prison, three months in prison,"
    "six months in prison, one year in prison, two years in prison, five years in prison, ten years in prison,"
    "forced labour, exile, house arrest, loss of office, seizure of goods"
)

COURTS = _words(
    "the Harbour Court, the Market Court, the Crown Court, the Forest Court, the River Court, the Abbey Court,"
    "the Castle Court, the Bridge Court, the Tithe Court, the Water Court, the Guild Court, the Border Court,"
    "the Mill Court, the County Court, the Gate Court, the Tower Court"
)

SUBJECTS = _words(
    "river fishing, grain storage, bell ringing, cattle droving, salt mining, street trade, tree felling,"
    "horse dealing,"
    "wine import, timber transport, well digging, ship repair, coin making, wool weighing, bridge tolls, night work,"
    "roof building, book printing, beer brewing, rent collection"
)

AUDITORS = _words(
    "Abbott and Crane, Barlow and Finch, Carver and Stone, Dexter and Lamb, Ellis and Rook, Foster and Dove,"
    "Graham and Swan, Hooper and Wren, Jarvis and Pike, Keller and Fox, Lawson and Hart, Mercer and Bull,"
    "Norris and Hawk, Palmer and Drake, Rogers and Wolf, Turner and Lynx"
)

SECTORS = _words(
    "shipping, banking, textiles, mining, insurance, railways, glass, paper, sugar, rubber, steel, tobacco, brewing,"
    "printing, cement, furniture, fishing, dyes, leather, clocks"
)

RIVERS = _words(
    "Aune, Brede, Calder, Dove, Esk, Frome, Glen, Hull, Idle, Kenn, Lune, Medway, Nidd, Orwell, Parrett,"
    "Ribble, Severn,"
    "Tamar, Usk, Wye"
)

DISHES = _words(
    "barley soup, smoked eel, plum cake, black bread, goat cheese, onion tart, pickled herring, honey biscuits,"
    "roast goose, lentil stew, apple dumplings, rye pancakes, bean salad, lamb pie, walnut bread, stuffed cabbage"
)

FESTIVALS = _words(
    "the lantern feast, the harvest dance, the boat race, the horse fair, the candle walk, the kite day,"
    "the cider feast,"
    "the sheep parade, the mask ball, the bell night, the flower market, the goose run"
)
