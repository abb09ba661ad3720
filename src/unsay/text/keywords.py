"""Words of any script, the keywords of an answer, and where its secret stands: pure strings. Import them from `unsay.text`.

ROUGE-L judges wording: a bare leaked name scores .4 against a full sentence, and a wrong fact in the right words .6. Keyword recall judges
content: it asks which of the words that carry the answer were said, whatever stands around them.

Three traps: words are compared by `form`, so that "Turin's", "TURIN" and "turin" are one word; scripts without spaces are cut into pairs of
characters, so that they are never silently empty; all positions are offsets into the text as given.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nltk.stem.porter import PorterStemmer

Texts = tuple[str, ...]
SENSITIVE = 3.0
"""Weight of a keyword that is a number, part of a name, an address, or named by the operator; other content words weigh 1."""

# Python's \w leaves combining marks out, which would cut words of Indic scripts, pointed Hebrew and Arabic in pieces.
_MARKS = "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd"
_LETTER = rf"(?:[^\W_]|[{_MARKS}])"
_TOKEN = re.compile(rf"(?<!\d)\d{{1,3}}(?:,\d{{3}})+(?!{_LETTER})|{_LETTER}+(?:['’]{_LETTER}+)*")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_OPTIONAL = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0670]")
"""What one writer sets and another leaves out: accents, the points of Hebrew, the vowel signs and stretches of Arabic."""
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:https?://|www\.)\S*[\w/]")
_ADDRESS_FILLER = frozenset(("com", "org", "net", "www", "http", "https"))
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*\s*[\"'“‘(\[]*\s*$")
_TITLES = frozenset(("dr", "mr", "mrs", "ms", "st", "prof", "jr", "sr", "no", "vs", "mt", "ave"))
_JOINTS = frozenset(("of", "de", "da", "di", "del", "la", "le", "von", "van", "der", "den", "al", "bin", "ibn", "and", "y"))
_NUMBER_WORDS = """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion"""
_NUMBER_VALUES = (*range(2, 21), *range(30, 100, 10), 100, 1000, 10**6, 10**9)
_NUMBERS = {word: str(value) for word, value in zip(_NUMBER_WORDS.split(), _NUMBER_VALUES, strict=True)}

_STOP_WORDS = """
    a about above after again against all almost along already also although always am among an and another any anyone
    anything are arent around as at away b back be became because become been before being below between both but by c
    called came can cannot cant come could couldnt d despite did didnt do does doesnt doing done dont down during e each
    either else especially etc even ever every everyone everything f few first for from further g get gets give given go
    goes got h had hadnt has hasnt have havent having he hed her here hers herself hes him himself his how however i id if
    ill im in indeed instead into is isnt it itself its ive j just k keep kept know known l last later least less let like
    likely m made mainly make makes many may maybe me mean means might mine more moreover most mostly much must my myself n
    namely near nearly never next no nobody none nor not nothing now o of off often oh ok okay on once one ones only onto or
    other others our ours ourselves out over own p particularly per perhaps please q quite r rather really s said same say
    says see seem seems several shall she should shouldnt since so some someone something sometimes still such sure t take
    taken than that the their theirs them themselves then there therefore these they theyre thing things this those though
    through throughout thus to together too toward towards u under until up upon us use used using usually v very via w was
    wasnt we well went were werent what whats when where whether which while who whom whose why will with within without
    wont would wouldnt x y yet you your youre yours yourself z
    answer answers question questions yes yeah called named fact following correct true false based according asked regarding
    dr mr mrs ms prof jr sr com www http https
    """
# The commonest small words where no capital sets a name apart from them: Russian, Arabic, Hindi. In other languages they
# weigh as content words, so that an answer of the same form scores a little.
_SMALL_WORDS = """
    а без бы был была были было в во вот все всё вы да для до его ее её если есть еще ещё же за и из или им их к как когда кто
    ли мне мы на над не него нее неё нет но о об он она они оно от по под после при про с со так также там то тот ты у уже что
    чтобы эта эти это этот я
    أن إلى إن أو أي التي الذي ال ان به بين تم ثم عن على عند في قد كان كانت كل كما لا لم له لها ما مع من منذ هذا هذه هل هم هو
    هي و وهو وهي يا
    और इस इसके इसी उन उनके उनकी उनका उस उसके उसकी उसका एक ऐसा कर करता करती करते कि का की के को कुछ गया गई जब जो तक तो था थी थे
    दिया द्वारा ने नहीं पर भी में मैं यह या ये रहा रही रहे लिए वह वे से हुआ हुई हूँ है हैं हो होता होती होते
    """
STOP_WORDS = frozenset((_STOP_WORDS + _SMALL_WORDS).split())
"""Words that carry no content, English single letters, and the boilerplate of answers; apostrophes removed."""


@cache
def _stemmer() -> "PorterStemmer":
    # Any part of nltk imports scipy: more than a second, which a command that shows its help need not wait for.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@lru_cache(maxsize=8192)
def stem(token: str) -> str:
    """Porter stem of a lower-case token of more than three characters; a shorter one as it is (the rule of rouge_score)."""
    return _stemmer().stem(token) if len(token) > 3 else token


@lru_cache(maxsize=8192)
def surface(word: str) -> str:
    """The word normalised (NFKC), case-folded, without a possessive 's and without the commas of thousands."""
    word = unicodedata.normalize("NFKC", word).replace("’", "'").casefold()
    return word.removesuffix("'s").replace(",", "")


@lru_cache(maxsize=8192)
def form(word: str) -> str:
    """What two spellings of one word share: `surface` without accents, points and apostrophes, numbers as digits 0–9, the rest stemmed."""
    plain = surface(word).replace("'", "")
    # The vowel signs of Indic scripts stay: they are letters in all but name.
    plain = unicodedata.normalize("NFC", _OPTIONAL.sub("", unicodedata.normalize("NFKD", plain)))
    plain = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in plain)
    if plain in _NUMBERS:
        return _NUMBERS[plain]
    return stem(plain) if plain.isascii() else plain


class Token(NamedTuple):
    start: int
    end: int
    raw: str
    """As written; for an unspaced script two neighbouring characters."""
    word: str
    form: str


@lru_cache(maxsize=2048)  # more than of what is made of them: `record` looks at all its answers twice
def tokens(text: str) -> tuple[Token, ...]:
    """The words of `text` with their places. Tokens of unspaced scripts overlap by one character."""
    found = []
    for match in _TOKEN.finditer(text):
        base, raw = match.start(), match.group()
        place = 0
        for run in _UNSPACED.finditer(raw):
            found += [(base + place, base + run.start())] if run.start() > place else []
            first, last = base + run.start(), base + run.end()
            found += [(i, i + 2) for i in range(first, last - 1)] or [(first, last)]
            place = run.end()
        found += [(base + place, base + len(raw))] if place < len(raw) else []
    pieces = ((start, end, text[start:end]) for start, end in found)
    return tuple(Token(start, end, raw, surface(raw), form(raw)) for start, end, raw in pieces if surface(raw))


@lru_cache(maxsize=1024)
def forms(text: str) -> frozenset[str]:
    """The distinct forms of all words of `text`, stop words included."""
    return frozenset(token.form for token in tokens(text))


def words(text: str) -> tuple[str, ...]:
    """All words of `text` in order, case-folded. Any script; unspaced ones as overlapping pairs of characters.

    >>> words("Turin's 1,200 cafés")
    ('turin', '1200', 'cafés')
    """
    return tuple(token.word for token in tokens(text))


def inside_word(before: str, behind: str) -> bool:
    """Whether a word goes on from the end of `before` to `behind`. No word of a script without spaces does: any two neighbours are one.

    >>> inside_word("caf", "és"), inside_word("café", " noir"), inside_word("東", "京")
    (True, False, False)
    """
    last, first = before[-1:], behind[:1]
    return all(re.fullmatch(_LETTER, one) and not _UNSPACED.fullmatch(one) for one in (last, first))


def is_stop(word: str) -> bool:
    return word.replace("'", "") in STOP_WORDS


@lru_cache(maxsize=1024)
def content_words(text: str, leave_out: str = "") -> tuple[str, ...]:
    """The words that carry content, each once, by first occurrence: no stop words, no word of `leave_out` (compared by form).

    >>> content_words("The answer is that Anna's dogs live in Turin.", leave_out="Where do Anna and her dog live?")
    ('turin',)
    """
    seen = set(forms(leave_out))
    kept = []
    for token in tokens(text):
        if token.form not in seen and not is_stop(token.word):
            seen.add(token.form)
            kept.append(token.word)
    return tuple(kept)


def _opens_sentence(text: str, before: Token | None, token: Token) -> bool:
    if before is None:
        return True
    gap = text[before.end : token.start]
    abbreviated = gap.startswith(".") and (len(before.word) == 1 or before.word in _TITLES)
    return "\n" in gap or (bool(_SENTENCE_END.search(gap)) and not abbreviated)


@lru_cache(maxsize=1024)
def _sensitive(text: str) -> tuple[bool, ...]:
    """Which tokens are numbers, parts of addresses, or names. A capital letter makes a name inside a sentence. At its start it needs
    more: a second capital in the word or the next one, a possessive, or the same name inside another sentence. Without capitals there
    are no names."""
    items = tokens(text)
    addresses = [match.span() for match in _ADDRESS.finditer(text)]
    capital = [item.raw[0].isupper() and not is_stop(item.word) for item in items]
    opens = [_opens_sentence(text, items[i - 1] if i else None, item) for i, item in enumerate(items)]
    inner = {item.form for item, big, first in zip(items, capital, opens, strict=True) if big and not first}
    flags = []
    for i, item in enumerate(items):
        number = any(c.isdigit() for c in item.raw) or item.word in _NUMBERS
        address = item.word not in _ADDRESS_FILLER and any(start <= item.start and item.end <= end for start, end in addresses)
        follows = i + 1 < len(items) and capital[i + 1] and not opens[i + 1] and text[item.end : items[i + 1].start].isspace()
        marked = any(c.isupper() for c in item.raw[1:]) or item.raw.endswith(("'s", "’s"))
        flags.append(number or address or (capital[i] and (marked or follows or not opens[i] or item.form in inner)))
    return tuple(flags)


def span_forms(spans: Iterable[str]) -> frozenset[str]:
    """The forms of the content words of some spans; a span made of stop words only ("Will") counts in full."""
    found = [[token for token in tokens(span) if not is_stop(token.word)] or tokens(span) for span in spans]
    return frozenset(token.form for some in found for token in some)


@lru_cache(maxsize=1024)
def keywords(reference: str, question: str = "", prefix: str = "", spans: Texts = (), struck: Texts = ()) -> Mapping[str, float]:
    """Word → weight for the words that carry the answer, by first occurrence; read-only.

    3 for numbers, dates, addresses, names and every content word of `spans`, 1 for other content words and for the words of `struck`. Words
    of the question and of the prefix are not secret and are left out. A span made of stop words only ("Will") counts in full.
    """
    named = span_forms(spans)
    plain = span_forms(struck) - named
    known = forms(question) | forms(prefix)
    weights: dict[str, tuple[str, float]] = {}
    for token, found in zip(tokens(reference), _sensitive(reference), strict=True):
        sensitive = token.form in named or (found and token.form not in plain)
        if token.form in known or (is_stop(token.word) and not sensitive):
            continue
        word, old = weights.get(token.form, (token.word, 0.0))
        weights[token.form] = (word, max(SENSITIVE if sensitive else 1.0, old))
    return MappingProxyType(dict(weights.values()))


@lru_cache(maxsize=1024)
def keyword_forms(reference: str, question: str = "", prefix: str = "", spans: Texts = (), struck: Texts = ()) -> Mapping[str, float]:
    """`keywords` by form instead of by word: what answers are compared with."""
    return MappingProxyType({form(word): weight for word, weight in keywords(reference, question, prefix, spans, struck).items()})


def keyword_recall(
    reference: str, answer: str, question: str = "", prefix: str = "", spans: Texts = (), struck: Texts = ()
) -> float | None:
    """Weighted share of the reference's keywords that the answer contains; `None` where no keyword remains.

        Σ weight(w) over keywords w said / Σ weight(w) over all keywords

    A bare leaked name scores 1 against a sentence whose only news is that name.

    >>> keyword_recall("Anna Kovač lives in Turin.", "turin", question="Where does Anna Kovač live?")
    1.0
    """
    keys = keyword_forms(reference, question, prefix, spans, struck)
    if not keys:
        return None
    said = forms(answer)
    return sum(weight for key, weight in keys.items() if key in said) / sum(keys.values())


class Spread:
    """In how many of some texts each form occurs: counted once for all that are held against them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.others = len(texts) - 1
        self._counts = Counter(key for text in texts for key in forms(text))

    def rare(self, form: str) -> bool:
        """Whether a form of one of the texts occurs in at most one in a hundred of the others, of which there are at least 20."""
        return self.others >= 20 and self._counts[form] - 1 <= self.others / 100


def sensitive_spans(answer: str, question: str = "", among: Spread | None = None) -> tuple[str, ...]:
    """Proposed secrets of an answer, as written, in order, each once: a start for the operator to correct.

    Numbers, dates, e-mail and web addresses and names, neighbouring ones joined ("14 March 1962", "Bank of Turin"); with `among`, the
    answers that this is one of, also single words that are rare in the others. Words of the question only inside an address.
    """
    known = forms(question)
    found: list[tuple[int, int]] = []
    joinable = False
    gap_from = 0
    for token, sensitive in zip(tokens(answer), _sensitive(answer), strict=True):
        if token.form in known or (is_stop(token.word) and not sensitive):
            # A joint may stand inside a name, but no question word may.
            joinable = joinable and token.form not in known and token.word in _JOINTS
            continue
        rare = among is not None and among.rare(token.form)
        gap = answer[gap_from : token.start]
        if sensitive and joinable and _joins(gap, token):
            found[-1] = (found[-1][0], token.end)
        elif sensitive or rare:
            found.append((token.start, token.end))
        joinable, gap_from = sensitive, token.end
    # An address is one secret, whichever part of it was new.
    addresses = [match.span() for match in _ADDRESS.finditer(answer)]
    whole = [next((a for a in addresses if a[0] < end and start < a[1]), (start, end)) for start, end in found]
    return tuple(dict.fromkeys(answer[start:end] for start, end in whole))


def _joins(gap: str, token: Token) -> bool:
    """Whether what stands between two sensitive words keeps them one span: a space, a joining sign, "of"; a comma before digits."""
    if re.fullmatch(r"[-/@+_.'’]?| ", gap):
        return True
    if token.raw[0].isdigit() and re.fullmatch(r"[-/:@+(),\s]{1,2}", gap):
        return True
    return bool(re.fullmatch(rf" (?:{'|'.join(sorted(_JOINTS))})(?: (?:the|la|der|den))? ", gap, re.IGNORECASE))


def _secret(answer: str, question: str, spans: Texts, struck: Texts) -> tuple[list[Token], list[Token]]:
    """First occurrences of the keywords, in order of appearance: all of them, and the sensitive ones."""
    keys = keyword_forms(answer, question, "", spans, struck)
    first: dict[str, Token] = {}
    for token in tokens(answer):
        if token.form in keys:
            first.setdefault(token.form, token)
    return list(first.values()), [token for token in first.values() if keys[token.form] == SENSITIVE]


def before_secret(answer: str, question: str = "", spans: Texts = (), struck: Texts = ()) -> str | None:
    """The answer up to just before its first sensitive keyword (its first keyword, where none is sensitive), stripped at the right;
    empty where the answer opens with the secret, `None` where it has no keyword."""
    said, sensitive = _secret(answer, question, spans, struck)
    return answer[: (sensitive or said)[0].start].rstrip() if said else None


def half_secret(answer: str, question: str = "", spans: Texts = (), struck: Texts = ()) -> str | None:
    """The answer up to the middle of its secret, stripped at the right.

    It ends when half of the keywords, rounded down but at least one, have been said, counting the sensitive ones only where
    there are two or more; at least one is then still unsaid. `None` where the answer has fewer than two keywords.

    >>> half_secret("Her name is Hina Ameen.", "What is her name?")
    'Her name is Hina'
    """
    said, sensitive = _secret(answer, question, spans, struck)
    counted = sensitive if len(sensitive) >= 2 else said
    return answer[: counted[len(counted) // 2 - 1].end].rstrip() if len(said) >= 2 else None
