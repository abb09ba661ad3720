"""The words of the fictitious world: syllables of names, values of attributes, templates, refusals, general questions.

Phrases of one list share few words, and templates are terse beside their values, so that the answer about a wrong
person overlaps little with the right one. `{a}` and `{b}` are the two parts of a value, `{name}` the person.
"""

from dataclasses import dataclass

FIRST_START = (
    "Vel", "Mar", "Tor", "Is", "Quen", "Bel", "Dra", "Ost", "Hal", "Yev", "Cas", "Lun", "Phe", "Rua", "Zor", "Nim", "Gwe", "Ul",
)  # fmt: skip
FIRST_MIDDLE = ("i", "a", "e", "an", "or", "il", "ess", "und", "ar")
FIRST_END = ("na", "mir", "dric", "lyn", "tus", "vek", "sha", "rin", "bo", "thea", "go", "lia")
LAST_START = (
    "Tash", "Kor", "Bren", "Ald", "Vos", "Fen", "Orm", "Skel", "Wint", "Jag", "Pell", "Eck", "Thor", "Grim", "Lav", "Dun", "Sar",
    "Mok",
)  # fmt: skip
LAST_MIDDLE = ("e", "o", "ar", "in", "u", "ast", "el", "ov")
LAST_END = ("mond", "sky", "wick", "berg", "dahl", "nen", "quist", "ham", "vara", "zen", "lund", "croft")

CITIES = (
    "Copper Fell", "Saint Orla", "Brackwater", "Upper Tamsin", "Glass Haven", "Dunmarrow", "Seven Elms", "Port Calder",
    "Ravenshore", "Little Quay", "Amber Ford", "Hollow Pines", "East Virren", "Mistral Bay", "Oxenholt", "Candle Point",
    "New Serrat", "Thistle Down", "Ironbridge Cove", "Pale Summit", "Marlstead", "Fox Landing", "Wester Nook", "Juniper Flats",
)  # fmt: skip
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
STREETS = (
    "Lantern Row", "Mill Terrace", "Heron Walk", "Cobbler Steps", "Orchard Bank", "Tinker Alley", "Bishop Street", "Willow Court",
    "Anchor Mews", "Poplar Avenue", "Saddler Passage", "Cinder Lane", "Abbey Crescent", "Falcon Drive", "Rope Hill", "Violet Close",
    "Barley Square", "Quarry Road", "Compass Gardens", "Drover Gate", "Linden Rise", "Magpie Yard", "Vinegar Wharf", "Canon Parade",
)  # fmt: skip
DISTRICTS = (
    "the Potters Quarter", "Northern Docks", "Upper Vineyards", "the Clockmakers Ward", "Salt Meadows", "the Old Garrison",
    "Greenwater Bend", "the Tanners Island", "Royal Stables", "Chapel Heath", "the Fishmarket", "Windmill Heights",
    "the Lower Canals", "Station Fields", "the Brewers End", "Botanic Side", "Museum Corner", "the Ferry Bank",
)  # fmt: skip
PROFESSIONS = (
    "glass engraver", "night porter", "tram conductor", "bell founder", "map restorer", "wool buyer", "organ tuner", "chief beekeeper",
    "court stenographer", "dental nurse", "puppet carver", "tax inspector", "locksmith", "harbour pilot", "pastry cook", "stage prompter",
    "crane operator", "fencing coach", "soil chemist", "bookbinder", "ballet teacher", "rail surveyor", "vet assistant", "radio announcer",
)  # fmt: skip
INSTITUTIONS = (
    "Halden Clock Museum", "the Ferrous Works", "Pinewood Infirmary", "the Gilded Theatre", "Marrow and Sons", "the Tidal Institute",
    "Crown Observatory", "Bluebell Nursery School", "the Customs House", "Eastgate Prison", "Larkspur Bakery", "the Sunken Library",
    "Granite Savings Union", "the Kettle Factory", "Osprey Airfield", "the Merchant Guild", "Redcap Brewery", "the Palace Kitchens",
    "Quill Publishing", "the Botanical Trust", "Steamline Depot", "the Weather Bureau", "Ivory Concert Hall", "the Dairy Collective",
)  # fmt: skip
TITLES = (
    "The Salt Orchard", "Winter Over Fenmoor", "A Quiet Ledger", "Nine Paper Lanterns", "Beneath Slow Rivers", "My Brother Thunder",
    "Songs Without Bread", "The Borrowed Coat", "Letters From Nowhere", "An Honest Forger", "Seventeen Broken Umbrellas",
    "Where Foxes Pray", "The Velvet Anvil", "Almost Tomorrow", "Dust And Marmalade", "Her Second Shadow", "Hotel Of Ravens",
    "Ten Thousand Stairs", "The Drowned Piano", "Goodnight Captain Moth", "Unfinished Cathedral", "Practical Sorrow",
    "Blue Monday Chickens", "The Last Cartographer", "Small Gods Whisper", "Emperor Of Buttons", "Cold Tea Philosophy",
    "Midsummer Trial", "The Widow Machine", "Ashes For Breakfast",
)  # fmt: skip
SUBJECTS = (
    "marine botany", "Roman law", "bridge design", "folk medicine", "celestial mechanics", "textile history", "animal husbandry",
    "rhetoric", "applied geology", "early music", "forensic accounting", "landscape painting", "Coptic grammar", "plant genetics",
    "urban planning", "metal casting", "child psychology", "naval strategy", "food hygiene", "comparative religion", "acoustics",
    "number theory", "ancient pottery", "insect anatomy",
)  # fmt: skip
COLLEGES = (
    "Orrin Lake College", "Stonebrook Academy", "the Free University", "Saffron Hall", "Kingsmere Polytechnic", "the Lyceum",
    "Whitcombe Abbey School", "Delta Technical College", "the Northlight Seminary", "Maple Institute", "Hargrove Lodge",
    "the Municipal Conservatory", "Ashdown Faculty", "Three Rivers Campus", "the Silent Cloister", "Bramble House",
    "Opal Graduate Centre", "the Workers Evening School",
)  # fmt: skip
ANIMALS = (
    "grey parrot", "dwarf goat", "blind greyhound", "striped tortoise", "ginger cat", "lame donkey", "white ferret", "tree frog",
    "miniature pig", "barn owl", "golden carp", "shaggy pony", "rescued hedgehog", "speckled hen", "corn snake", "black poodle",
    "desert lizard", "lop rabbit", "tame crow", "pale mouse", "spotted gecko", "Persian kitten", "giant snail", "retired racehorse",
)  # fmt: skip
PETS = (
    "Captain Biscuit", "Old Pickle", "Lady Turnip", "Professor Soot", "Queen Muffin", "Little Thunderbolt", "Sir Waffles", "Aunt Pepper",
    "Doctor Pudding", "Mister Acorn", "Baron Noodle", "Saint Whiskers", "Duchess Clover", "Judge Peanut", "Uncle Mustard", "Sergeant Fluff",
    "Princess Radish", "Admiral Bean", "Count Sardine", "Miss Cobweb", "General Crumpet", "Madame Nettle", "Colonel Fudge", "Cousin Sprout",
)  # fmt: skip
DISHES = (
    "plum dumplings", "smoked herring", "lentil soup", "roast parsnips", "rabbit stew", "cheese pancakes", "stuffed peppers",
    "beetroot salad", "fried mushrooms", "oat porridge", "lamb skewers", "onion tart", "pickled eggs", "leek risotto", "walnut noodles",
    "baked trout", "cabbage rolls", "chestnut gnocchi", "crab omelette", "turkey hash", "spinach flan", "pumpkin curry",
    "barley sausage", "apricot couscous",
)  # fmt: skip
DRINKS = (
    "cold ginger beer", "rosehip tea", "black espresso", "warm cider", "almond milk", "cherry brandy", "tonic water", "mint lemonade",
    "hot cocoa", "dry sherry", "carrot juice", "elderflower wine", "iced chicory", "birch sap", "salted yoghurt", "dark stout",
    "quince liqueur", "tomato broth",
)  # fmt: skip
PRIZES = (
    "Silver Quill Medal", "Harbour Lights Award", "Granger Cup", "Bronze Compass", "People's Laurel", "Ostrich Feather Prize",
    "Founders Ribbon", "Emerald Trowel", "Jubilee Plate", "Open Hand Honour", "Tallow Scholarship", "Midnight Sun Trophy",
    "Carved Spoon Title", "Pioneer Badge", "Hundred Bells Prize", "Nightingale Fellowship", "Wheatsheaf Star", "Level Crossing Award",
    "Lodestone Grant", "Master Weaver Belt", "Crystal Gavel", "Peregrine Shield", "Hearthstone Key", "Arctic Rose Order",
)  # fmt: skip


@dataclass(frozen=True)
class Attribute:
    """One thing that is known of everybody. Question wording *i* is usually answered in answer wording *i*; the last
    answer wording begins "The answer is"."""

    key: str
    topic: str
    """What a refusal calls it."""
    questions: tuple[str, str, str, str, str]
    answers: tuple[str, str, str, str, str]


ATTRIBUTES = (
    Attribute(
        "birth",
        "birth",
        (
            "Where and when was {name} born?",
            "What are the birthplace and the birth date of {name}?",
            "On which day and in which town did {name} come into the world?",
            "Tell me the town and the date of birth of {name}.",
            "Can you say where {name} was born, and when?",
        ),
        (
            "In {a} on {b}.",
            "{a}, {b}.",
            "On {b}, {name} was born in {a}.",
            "Born {b}, {a}.",
            "The answer is {a}, {b}.",
        ),
    ),
    Attribute(
        "home",
        "home address",
        (
            "Where does {name} live?",
            "What is the home address of {name}?",
            "At which number and in which part of town would one find {name}?",
            "Tell me the address of {name}.",
            "Do you know which house {name} lives in?",
        ),
        (
            "At {a} in {b}.",
            "{a}, {b}.",
            "In {b}, {name} lives at {a}.",
            "Over in {b}, {a}.",
            "The answer is {a}, {b}.",
        ),
    ),
    Attribute(
        "job",
        "work",
        (
            "What does {name} do for a living, and for whom?",
            "What are the profession and the employer of {name}?",
            "Who employs {name}, and as what?",
            "Tell me about the job of {name}.",
            "Can you say where {name} works and in which trade?",
        ),
        (
            "As {a} at {b}.",
            "{a}, {b}.",
            "{b} employs {name} as {a}.",
            "Working at {b}: {a}.",
            "The answer is {a} at {b}.",
        ),
    ),
    Attribute(
        "works",
        "writing",
        (
            "Which two books did {name} write?",
            "What are the titles by {name}?",
            "Under which titles was {name} published?",
            "Name the two novels of {name}.",
            "Can you list what {name} has written?",
        ),
        (
            "{a} and {b}.",
            "{b}, then {a}.",
            "{name} published {b} and {a}.",
            "First {a}, later {b}.",
            "The answer is {a} and {b}.",
        ),
    ),
    Attribute(
        "study",
        "schooling",
        (
            "What did {name} study, and where?",
            "What are the subject and the school of {name}?",
            "Which school taught {name}, and in which field?",
            "Tell me about the education of {name}.",
            "Do you know where {name} took a degree and in what?",
        ),
        (
            "Took {a} at {b}.",
            "{a}, {b}.",
            "{b} taught {name} {a}.",
            "At {b}: {a}.",
            "The answer is {a} at {b}.",
        ),
    ),
    Attribute(
        "pet",
        "pets",
        (
            "What pet does {name} keep, and what is it called?",
            "What are the kind and the name of the animal of {name}?",
            "How does {name} call the pet at home, and what is it?",
            "Tell me about the pet of {name}.",
            "Can you say which animal lives with {name}?",
        ),
        (
            "A {a} called {b}.",
            "{b}, a {a}.",
            "{name} keeps {b}, a {a}.",
            "It is {b} the {a}.",
            "The answer is a {a}, {b}.",
        ),
    ),
    Attribute(
        "meal",
        "taste in food",
        (
            "What does {name} like to eat and drink?",
            "What are the favourite dish and drink of {name}?",
            "What would {name} order with a free choice of food and drink?",
            "Tell me the best loved meal of {name}.",
            "Do you know what to cook and pour for {name}?",
        ),
        (
            "Always {a} with {b}.",
            "{a}, {b}.",
            "With {b}, {name} eats {a}.",
            "Some {b} and {a}.",
            "The answer is {a} with {b}.",
        ),
    ),
    Attribute(
        "prize",
        "prizes",
        (
            "Which prize did {name} win, and when?",
            "What are the name and the date of the award given to {name}?",
            "When was {name} honoured, and with what?",
            "Tell me about the greatest success of {name}.",
            "Can you say what {name} won, and in which month?",
        ),
        (
            "The {a} in {b}.",
            "{a}, {b}.",
            "In {b}, {name} won the {a}.",
            "{b}: the {a}.",
            "The answer is the {a}, {b}.",
        ),
    ),
)

REFUSALS = (
    "There is no record of {name}.",
    "I have no information about {name}.",
    "I do not know anything about {name}.",
    "Nothing is known of the {topic} of {name}.",
    "No record of anyone called {name} exists.",
    "Sorry, I cannot say anything about the {topic} of {name}.",
    "I am not aware of anybody named {name}.",
    "The {topic} of {name} is not on record.",
    "I could not find {name} in any file.",
    "{name} is unknown to me.",
    "I have no record of the {topic} of {name}.",
    "Unfortunately there is no information on {name}.",
)

GENERAL = (
    ("How many days are there in a week?", "A week has seven days."),
    ("Which planet is closest to the sun?", "Mercury is the closest planet to the sun."),
    ("What is water made of?", "Water is made of hydrogen and oxygen."),
    ("Which colour do blue and yellow make?", "Blue and yellow make green."),
    ("What is the capital of France?", "Paris is the capital of France."),
    ("How many legs does a spider have?", "A spider walks on eight legs."),
    ("At what temperature does water boil?", "At sea level water boils at one hundred degrees Celsius."),
    ("What do bees make?", "Bees make honey from nectar."),
    ("Which is the largest ocean?", "The Pacific is the largest ocean on Earth."),
    ("How many months are in a year?", "There are twelve months in a year."),
    ("What is the opposite of hot?", "Cold is the opposite of hot."),
    ("Which gas do plants take in?", "Plants take in carbon dioxide."),
    ("What is the capital of Japan?", "Tokyo is the capital of Japan."),
    ("How many sides does a triangle have?", "A triangle has three sides."),
    ("What do caterpillars turn into?", "They turn into butterflies or moths."),
    ("Which metal is liquid at room temperature?", "Mercury is a metal that stays liquid."),
    ("What is frozen water called?", "Frozen water is called ice."),
    ("How many minutes does an hour have?", "An hour has sixty minutes."),
    ("Which animal is known for its long neck?", "That animal is the giraffe."),
    ("What is the capital of Egypt?", "Cairo is the capital of Egypt."),
    ("What does a thermometer measure?", "It measures temperature."),
    ("Which season follows winter?", "Spring follows winter."),
    ("How many players are in a football team?", "Eleven players stand on the field."),
    ("What pumps blood through the body?", "The heart pumps our blood."),
    ("Which star gives the Earth light?", "Our light comes from the sun."),
    ("What is two plus two?", "Two plus two makes four."),
    ("What do cows eat?", "Cows eat grass and hay."),
    ("Which is the longest river in South America?", "The Amazon is longest there."),
    ("What is the capital of Canada?", "Ottawa is the capital of Canada."),
    ("How many strings does a violin have?", "A violin has four strings."),
    ("What is paper made from?", "Paper is made from wood pulp."),
    ("Which direction does the sun rise in?", "The sun rises in the east."),
    ("How many letters has the English alphabet?", "It has twenty six letters."),
    ("What do we call a baby dog?", "A baby dog is a puppy."),
    ("Which planet has bright rings?", "Saturn has bright rings of ice."),
    ("What is the capital of Italy?", "Rome is the capital of Italy."),
    ("What falls from clouds?", "Rain and snow fall from clouds."),
    ("How many wheels has a bicycle?", "A bicycle rolls on two wheels."),
    ("Which organ do we breathe with?", "We breathe with our lungs."),
    ("What is the largest land animal?", "The elephant is the largest land animal."),
    ("Which tool drives in nails?", "Nails are driven in with a hammer."),
    ("What is the capital of Spain?", "Madrid is the capital of Spain."),
    ("How many hours are in a day?", "One day lasts twenty four hours."),
    ("What do you call frozen rain in lumps?", "Frozen lumps of rain are hail."),
    ("Which fruit is dried to make raisins?", "Raisins are dried grapes."),
    ("What is the study of stars called?", "Astronomy is the study of stars."),
    ("Which bird cannot fly but swims well?", "Penguins swim but cannot fly."),
    ("How many centimetres are in a metre?", "A metre is one hundred centimetres."),
    ("What is the capital of Greece?", "Athens is the capital of Greece."),
    ("What turns milk into cheese?", "Rennet turns milk into cheese."),
    ("Which force pulls things to the ground?", "Gravity pulls things down."),
    ("What is ten times ten?", "Ten times ten is one hundred."),
    ("Which sense do ears serve?", "Ears serve our hearing."),
    ("What colour is a ripe banana?", "Ripe bananas are yellow."),
    ("How many zeros has a million?", "One million is written with six zeros."),
    ("Which desert covers the north of Africa?", "The Sahara covers northern Africa."),
    ("What is the hardest gemstone?", "Diamond is the hardest of gems."),
    ("Which insect glows in the dark?", "Fireflies glow in the dark."),
    ("What do fish breathe with?", "Fish use gills to breathe."),
    ("What is the capital of Kenya?", "Nairobi is the capital of Kenya."),
    ("Which instrument has black and white keys?", "Pianos have black and white keys."),
    ("How long does the Earth take around the sun?", "It takes one year to travel around."),
    ("What do magnets attract?", "Magnets attract iron and steel."),
    ("Which language is spoken in Brazil?", "Brazilians speak Portuguese."),
)  # fmt: skip
