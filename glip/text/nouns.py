"""Noun phrases of a free caption: "a man", "a red umbrella", "the grass".

The built-in chunker needs no model and no download: closed word classes, the verbs that captions
use, word endings and a few rules on neighbours give every word a tag, and a phrase is

    (article | quantifier | possessive)* (adverb | adjective)* noun+ ("'s" ...)?

that is, the base noun phrases of Ramshaw and Marcus (cmp-lg/9505040) with possessives kept whole,
as spaCy's `noun_chunks` has them. English only: in other languages it finds whole runs of words.
The one place that touches a language toolkit; knows nothing about prompts, tokens or boxes.
"""

import re
from collections.abc import Callable
from enum import Enum, auto
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from glip.errors import ConfigError

Span = tuple[int, int]

Chunker = Literal["auto", "builtin", "spacy"]
"""Who finds noun phrases: spaCy when it can be used and ours otherwise, always ours, always spaCy."""

NO_SPACE_SCRIPTS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
"""Scripts that write no blanks between words, as the inside of a regular expression's [...]."""


class Tag(Enum):
    """What a word is, as far as finding noun phrases needs to know."""

    ARTICLE = auto()  # the, his, this
    QUANTIFIER = auto()  # two, several, 3
    ADJECTIVE = auto()
    ADVERB = auto()
    NOUN = auto()
    POSSESSIVE = auto()  # 's
    VERB = auto()
    BE = auto()  # is, has, can: forms that only sentences have
    PRONOUN = auto()
    PREPOSITION = auto()
    CONJUNCTION = auto()
    PUNCTUATION = auto()


class Word(NamedTuple):
    """One word or punctuation mark of a caption.

    Attributes:
        span: its [start, end) characters.
        text: its letters in lower case.
        tag: what it is.
    """

    span: Span
    text: str
    tag: Tag


def noun_phrases(caption: str, chunker: Chunker = "auto") -> list[Span]:
    """The base noun phrases of a caption as [start, end) character spans, in order, none
    overlapping.

    Pronouns alone ("it", "someone") are no phrases.

    Args:
        caption: any text; English for the built-in chunker.
        chunker: "builtin" gives the same phrases everywhere. "spacy" needs spaCy and an installed
            English model, "auto" takes them if they are there; nothing is ever downloaded.
    Raises:
        ConfigError: another chunker, or "spacy" without spaCy or an English model.
    """
    if chunker not in ("auto", "builtin", "spacy"):
        raise ConfigError(f"chunker: unknown name {chunker!r}; one of 'auto', 'builtin', 'spacy'")
    pipeline = None if chunker == "builtin" else _spacy_pipeline()
    if pipeline is not None:
        return _spacy_phrases(pipeline, caption)
    if chunker == "spacy":
        raise ConfigError(
            "chunker 'spacy' needs spaCy and an English model (python -m spacy download "
            "en_core_web_sm); 'builtin' needs neither"
        )
    return _phrases(tag_words(caption))


def tag_words(caption: str) -> list[Word]:
    """The words and punctuation marks of a caption, each with its tag by the built-in rules."""
    tokens = _tokenize(caption)
    tagger = _Tagger([caption[a:b].lower().replace("\u2019", "'") for a, b in tokens])
    tags = tagger.tag()
    return [Word(*word) for word in zip(tokens, tagger.words, tags, strict=True)]


# Words.

# Letters, with the marks that Python's \w leaves out: accents, Hebrew and Arabic points, Indic
# vowels.
_LETTER = r"[\w\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff\u0e00-\u0eff\u200c\u200d]"
_TOKEN = re.compile(
    rf"(?:[^\W\d_]\.)+[^\W\d_]\b\.?"  # a.c.
    rf"|\d+(?:[.,:]\d+)+"  # 3.5
    rf"|{_LETTER}+(?:[-\u2010\u2011'\u2019&]+{_LETTER}+)*"  # t-shirt, o'clock
    rf"|'s\b|\S"
)
_CLITIC = re.compile(r"(?<=\w)(?:['\u2019](?:s|re|ve|ll|d|m))$|(?<=\w)n['\u2019]t$", re.IGNORECASE)


def _tokenize(caption: str) -> list[Span]:
    """Words and punctuation marks; "'s" and other clitics apart from their word, blanks left out."""
    spans: list[Span] = []
    for match in _TOKEN.finditer(caption):
        start, end = match.span()
        clitic = _CLITIC.search(match.group())
        if clitic:
            spans.append((start, start + clitic.start()))
            start += clitic.start()
        spans.append((start, end))
    return spans


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ARTICLES = _set("a an the this these those every his its their my your our whose what")
_NUMBERS = _set(
    """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty thirty forty fifty hundred thousand"""
)
_QUANTIFIERS = _NUMBERS | _set(
    """all another any both each either enough few half many more most much neither no one
    several some such"""
)
_PREDETERMINERS = _set("all both half such")
_PRONOUNS = _set(
    """he her hers herself him himself i it itself me mine myself others ours she theirs them
    themselves they us we who whom which you yourself someone somebody anyone anybody everyone
    everybody nobody something anything everything nothing eachother whatever"""
)
_RELATIVES = _set("who which that whom")
_PREPOSITIONS = _set(
    """about above across after against along alongside amid amidst among amongst around as aside at
    atop before behind below beneath beside besides between beyond by despite down during for from
    in inside into like near of off on onto out outside over past per round since than through
    throughout till to toward towards under underneath until unto up upon via with within without
    aboard because if when where while whilst although though unless whether how why versus vs
    except"""
)
_CLAUSE_OPENERS = _set(
    "as while whilst when where because if although though until since before after"
)
_CONJUNCTIONS = _set("and or but nor & plus yet")
_BE = _set(
    """is are was were be been being am isn't aren't has had have having could would should will
    might must may can cannot did do does 're 've 'll 'd 'm n't ain't"""
)
_MODALS = _set("could would should will might must may can cannot did do does 'll 'd n't to")
_ADVERBS = _set(
    """ago ahead almost alone already also always apart away barely downhill downstairs downtown
    downward downwards else ever even far fast forward forwards here high highly hard indoors
    instead just maybe midair near nearby never not now often once only outdoors overhead perhaps
    quite rather really sideways so somewhat somewhere soon still then there thus today together
    tonight too twice uphill upright upside-down upstairs upward upwards very well yesterday
    backward backwards barefoot headfirst mid-air aloft abreast aside onstage online offshore inland
    ashore airborne asleep awake"""
)
_LY_WORDS = _set(
    """belly butterfly bully chilly cuddly curly doily dragonfly elderly family firefly fly friendly
    gully holly hilly homily italy jelly jolly lily lively lonely lovely monopoly oily only potbelly
    rally reply silly smelly supply surly ugly wily woolly wooly wrinkly assembly anomaly"""
)
_COLORS = _set(
    """black white red green blue yellow brown grey gray pink purple beige tan maroon turquoise teal
    violet crimson scarlet magenta golden blond blonde brunette"""
)
_ADJECTIVES = _COLORS | _set(
    """able abstract active adorable aerial alert amused angry antique artificial asian athletic
    attractive average bad bald bare beautiful big bitter blank blind blurry bold boring brave brief
    bright brilliant broad busy calm careful casual cheap cheerful choppy circular classic clean
    clear clever close cloudy clear coarse cold colorful colourful comfortable common complete cool
    crazy crisp crooked crowded crude cute damp dangerous dark dead deep delicious dense different
    difficult digital dim dirty distant double dry dual dull dusty dusky eager early eastern easy
    elaborate electric electrical electronic elegant empty enormous equal excited exotic expensive
    extra extreme faint fair familiar famous fancy fat few fierce fine firm first flat flexible
    floral fluffy foggy foreign formal fresh friendly frosty frozen frustrated full fun funny furry
    fuzzy gentle giant gigantic glad glossy good gorgeous graceful grand grassy gravel grand gross
    great grimy hairy handsome handy happy harsh hazy healthy heavy historic hollow homemade
    horizontal hot huge humid hungry icy ideal identical immature important indoor industrial inner
    innocent intense interesting juicy junior key large last late lazy leafy lean leafless left
    light likely little live local lone long loose loud low lower lush mad magnificent main major
    marble massive mature mechanical medieval medium messy metallic middle-aged mid mild military
    miniature minor misty mobile modern moist mossy muddy multicolored multicoloured multicolor
    multiple murky muscular naked narrow nasty national natural near neat nervous new next nice
    noisy normal northern nude numerous obese odd oblong old older open opposite ordinary ornate
    other outdoor outer oval overcast overhead overweight own pale partial peaceful perfect petite
    plain playful pleasant plump plush polite poor popular portable pregnant pretty previous prior
    private professional proper proud public puffy pure quaint quick quiet random rare raw ready
    real rear recent rectangular regular residential rich ripe rocky romantic rotten rough round
    rugged rural rustic rusty sad safe same sandy scary scenic second secure separate serious severe
    shabby shady shaggy shallow sharp sheer shiny short sick similar simple single skinny sleek
    sleepy slick slender slight slim slippery slow small smart smooth snowy soapy soft solar sole
    solid sour southern spacious spare special spicy spotty stale standard steep sticky stiff stormy
    straight strange strong stubborn sturdy stylish sudden suitable sunny super sure surprised
    sweaty sweet swift tall tame tasty tender terrible thick thin third tidy tight tiny tired tough
    toy traditional transparent tropical true typical uneven uniform unique unknown unusual unripe
    upper upset upside urban usual vacant vague various vast vertical vibrant vintage violent
    visible vivid warm wary weak wealthy weary weird western wet whole wicked wide wild windy wise
    wooden wooded wonderful worn wrong young younger yummy topless shirtless careless leather-clad
    upside bigger smaller larger taller shorter longer bigger nicer closer lit made inflatable
    african american asian european british english french german italian chinese japanese indian
    mexican spanish greek irish russian arabic oriental caucasian asleep awake alive afraid aware
    topless alike curious loaded polar stainless ethnic male female teenage adult chocolate-covered
    assorted commercial facial floral glass-topped intent obese ongoing oversized overgrown parallel
    prone rainy renowned sepia sheltered spiral static tribal unattended underwater high-rise
    wireless woven red-haired"""
)
_NOUNS_BEFORE_NOUNS = _set(
    "orange silver gold metal plastic wood glass stone brick leather concrete steel cotton denim male female"
    " adult rose peach cream navy lime sky royal toy front back top bottom side middle left right teal"
)
_SHADES = _set("navy lime sky royal forest baby powder neon pastel")
_IN_COMPOUND = _set(
    "covered filled shaped colored coloured topped lined powered themed sized based cut"
)
_ING_NOUNS = _set(
    """awning bedding being building ceiling clearing clothing crossing drawing dressing earring
    evening filling frosting gathering icing king lettering lightning lining meeting morning opening
    outing painting paneling parking pavings pudding railing ring seating setting sibling siding
    sling spring string stocking stuffing swing thing topping viewing wedding wing wiring writing
    housing kayaking skateboarding snowboarding surfing skiing boarding wrestling boxing bowling
    camping fishing plumbing scaffolding tubing rigging carving grating landing flooring clippings
    ping bling duckling dumpling seedling shopping schooling shilling herring starling viking
    pricing roofing coming going"""
)
_COMPOUND_INGS = _set(
    """baking bathing boarding bowling boxing camping carving changing chewing climbing coloring
    cooking cutting dancing dining dressing drinking driving drying fencing ferris fishing frying
    fighting hiking ironing jumping landing laughing living loading measuring mixing operating
    parking playing potting racing reading riding rocking rolling rowing running sailing sewing
    shaving shipping shopping shooting skating skiing sleeping sliding steering surfing swimming
    swinging training trading vending waiting walking washing watering wedding weighing welding
    whipping wrapping writing serving folding flying meeting moving sporting"""
)
"""-ing words that name the purpose of the noun after them: "dining table", "parking lot"."""
_ANIMATE = _set(
    """man woman boy girl child kid baby person guy lady dog cat horse bird cow sheep bear elephant
    puppy toddler athlete player surfer skier teen teenager adult couple group family team crowd
    someone people men women children cyclist biker rider snowboarder skateboarder male female goat
    giraffe zebra monkey kitten duck lamb bull pup youth gentleman boys girls officer worker student
    artist musician band bride groom chef cook model mother father mom dad son daughter brother
    sister friend animal pet"""
)
_PLURALS = _set(
    "people men women children sheep cattle deer mice geese feet teeth police fish oxen wolves calves"
)
_SINGULARS_IN_S = _set(
    """bus glass grass dress mattress tennis canvas cactus class cross chess mass moss canvass
    compass christmas gas lens iris princess waitress octopus walrus hippopotamus atlas harness
    fortress address brass boss kiss pass press business access process hostess mistress actress
    seamstress"""
)

# Verbs that are hardly ever nouns in captions.
_VERBS = _set(
    """accompany add admire adjust allow appear apply approach arrange arrive ask assemble assist
    attach attend bake be become beg begin bend blow bounce bring browse build bundle burn buy carry
    celebrate chat chew chop clap clear cling collect come compete concentrate conduct connect
    consist contain continue converse create crouch cuddle cut dangle decorate deliver demonstrate
    depict descend destroy dig dine direct discuss dive donate drag drape dribble eat embrace emerge
    enclose enjoy enter entertain examine explore explain feed fill fix follow frolic gallop gather
    gaze get give glide go grab graze greet grind grow hang happen hear hide hold hop hover huddle
    illuminate include inhale inspect install interact jog juggle keep kneel know lay leap learn
    lean leave let lick lie listen live locate lounge lower lurk maneuver meditate meet melt mingle
    munch near need nestle observe occupy operate overlook own peel peer perch perform pick pour
    prepare preform pretend protect pursue put raise read receive recline reflect relax remove
    resemble retrieve roam say scatter see seem sell send separate serve sew shave shine show sing
    sip sit sleep sniff soak soar speak spill squat squirt stare steal steer stir strap stroll
    suckle surround swat swoop take teach tell tether throw trim trot try tumble undergo unload use
    wade wag wait wake wander want wear weave wield wipe wrestle write yawn adorn advertise consume
    contemplate crawl encourage erode expose extend face flee fling grasp handle hoist hug hurl
    imitate inform intertwine jut kick lather loom march mow nibble nuzzle ogle paddle pedal pet
    plunge poke ponder pounce preach prop propel rear recreate rely repair rinse roast rub rush
    scrape scrub select sharpen shovel sketch slam slurp smash sneak snuggle sort speed squeeze
    stumble suspend swallow sweep tackle tease thank tilt toil tow trudge tug twirl unite unwrap
    wash whisper wind wow yell""",
)
# Verbs whose forms are nouns too, where between two readings the verb is the better guess ...
_VERBS_FIRST = _set(
    """attempt bark bat bite bow brush catch chase check climb cook crash cross cruise dance dash
    drink drive drop exit fall fight fish flip float fly gaze grin guard hike hit hurdle jump kiss
    lead leap lift look make move nap pass peek pitch play point pose practice pull push race reach
    rest return ride roll run sail scream shake shoot skate skateboard ski skip slide smell smile
    smoke snack snowboard spin splash sprint stand step stop stretch strike struggle surf swim swing
    talk taste throw toss touch trek try turn travel type visit wait walk watch wave work stick
    start help charge paint share jog lunge dribble bounce tumble wrap serve race splash spray reach
    laugh sneeze stalk salute cheer""",
)
# ... and where the noun is.
_NOUNS_FIRST = (
    _set(
        """board boat book box bridge cast circle clean close coach comb court cover crowd cup curl
        deck
    desk display divide dock double dress dust end face fan farm feature fence field film fire flash
    flower frame front glass grill ground guide hand head herd hose house ice joint judge kite label
    land lap leash lift light line load lock look mark market mask match mirror mount nurse open
    order pack park pattern pedal perch phone picture place plane plant plate pocket pool post
    present print rail raft rain ram record ring rock row salad sand scale score scoop screen seat
    set shade shape shelter ship shop shower sign sink skid sled slice sling slope snow sound spot
    spread square squash stack stage stamp star station stem stock stone store storm stream strip
    study style suit sun support surface swarm table tag tap tape team tie tile tip tool top tour
    track trail train travel tree trick trip trunk tube vault view voice wall water wave weather
    wedge wheel whip wing yard zip camp rope trim bike cart dish mop pet ski saddle skirt sock
    string ripple spectator block bat surf work""",
    )
    - _VERBS_FIRST
)
_PAST_FORMS = _set(
    """ate became began bent bitten bit blew blown bought bound broke broken brought built burnt
    came caught chose chosen clung crept cut dealt did done dove drank drawn drew driven drove drunk
    dug eaten fallen fed fell felt fled flew flown fought found froze gave given gone got gotten
    grew grown had heard held hid hidden hit hung hurt kept knelt knew known laid lain leapt led
    lent lit lost made met paid put ran ridden rode rang risen rose run said sang sank sat saw seen
    sent sewn shaken shook shone shot shown shut slept slid sold sought spent spoke spoken spread
    sprung spun stood stole stolen struck stuck stung sung sunk swam swept swum swung taken taught
    thought threw thrown told took tore torn understood went woke wore worn wound woven written
    wrote strewn shorn slung strung thrust overgrown withdrawn"""
)
_NOT_PAST = _set(
    """bed red shed sled seed weed speed reed breed feed need hundred moped steed bleed greed naked
    wicked biped embed ted fred med kneed watershed bobsled bloodshed"""
)
_NOT_ADJECTIVES = _set(
    """music picnic traffic plastic fabric public comic clinic mosaic graphic attic mechanic medic
    olive dive drive hive native five archive table vegetable cable stable bible crucible marble
    pebble bubble syllable dish fish radish brush finish polish rubbish goulash relish bus circus
    walrus jesus cactus octopus asparagus forest chest nest vest west guest test contest harvest
    crest quest priest rest pest breakfast zest arrest interest rabbit kitchen children women men
    oven garden chicken kitten mitten pen hen den linen token screen queen green teen heaven dozen
    raven siren omen specimen citizen maven aspen haven burden warden bowl critic fanatic cubic
    arctic pelvic topic tunic relic ethnic panic handful mouthful spoonful armful bucketful fistful
    plateful bowlful basketful cupful gable adhesive collective detective locomotive alternative
    objective perspective executive relative motive sieve sleeve glove groove grove cove stove dove
    love above curve nerve""",
)
_ADJECTIVE_ENDING = re.compile(r".{3,}(?:ful|ous|less|able|ible|ish|ive|ic|est|iest|esque|some)$")
"""Endings of words that are mostly adjectives; the exceptions are above."""


@cache
def _verb_forms() -> dict[str, tuple[str, str]]:
    """Form -> (base, kind) for the verbs above; kinds "base", "s" (rides), "ing", "past"."""
    forms: dict[str, tuple[str, str]] = {}
    for verb in _VERBS | _VERBS_FIRST | _NOUNS_FIRST:
        stem = verb[:-1] if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) else verb
        if re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]|.*[^aeiou][aeiou]p", verb):
            stem = verb + verb[-1]  # sit, sitting
        if verb.endswith("ie"):
            forms[verb[:-2] + "ying"] = verb, "ing"
        else:
            forms[stem + "ing"] = verb, "ing"
        if verb.endswith("y") and verb[-2] not in "aeiou":
            forms[verb[:-1] + "ies"] = verb, "s"
            forms[verb[:-1] + "ied"] = verb, "past"
        else:
            sibilant = verb.endswith(("s", "x", "z", "ch", "sh", "go", "do"))
            forms[verb + ("es" if sibilant else "s")] = verb, "s"
            forms[stem + "ed"] = verb, "past"
    forms |= {past: (past, "past") for past in _PAST_FORMS}
    return forms | {verb: (verb, "base") for verb in _VERBS | _VERBS_FIRST | _NOUNS_FIRST}


class _Tagger:
    """Tags from left to right, each word from its own form, the tags before it and the words after it."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.tags: list[Tag] = []
        self.has_verb = False  # in the clause so far: the next noun is no subject

    def tag(self) -> list[Tag]:
        for i, word in enumerate(self.words):
            tag = self._tag(i, word)
            self.tags.append(tag)
            if tag in (Tag.VERB, Tag.BE) and not word.endswith("ing"):
                self.has_verb = True
            elif word in _CLAUSE_OPENERS or word in _RELATIVES or word in ".!?;:":
                self.has_verb = False
        return self.tags

    # What stands around.

    def _word(self, i: int) -> str:
        return self.words[i] if 0 <= i < len(self.words) else ""

    def _before(self, back: int = 1) -> Tag | None:
        return self.tags[-back] if back <= len(self.tags) else None

    def _may_be_noun(self, i: int) -> bool:
        """Whether a word could go on a noun phrase: a noun or something before nouns."""
        word = self._word(i)
        if not word or not word[0].isalnum() or self._is_closed(word):
            return False
        base, kind = _verb_forms().get(word, ("", ""))
        return base not in _VERBS or kind in ("ing", "past")

    @staticmethod
    def _is_closed(word: str) -> bool:
        return (
            word in _ARTICLES
            or word in _PREPOSITIONS
            or word in _PRONOUNS
            or word in _BE
            or word in _CONJUNCTIONS
            or word in _QUANTIFIERS
            or word in _ADVERBS
            or word == "to"
        )

    def _is_plural(self, i: int) -> bool:
        word = self._word(i)
        return word in _PLURALS or (
            word.endswith("s")
            and not word.endswith(("ss", "us", "is"))
            and word not in _SINGULARS_IN_S
        )

    def _is_animate(self, i: int) -> bool:
        word = self._word(i)
        return (
            word in _ANIMATE
            or word.removesuffix("s") in _ANIMATE
            or re.fullmatch(r".{3,}(?:man|men|woman|women|ist|ists|boy|girl)", word) is not None
        )

    def _phrase_start(self) -> int:
        """Where the noun phrase that ends before the current word starts."""
        start = len(self.tags)
        inside = (Tag.NOUN, Tag.ADJECTIVE, Tag.ARTICLE, Tag.QUANTIFIER, Tag.POSSESSIVE)
        while start > 0 and self.tags[start - 1] in inside:
            start -= 1
        return start

    # One word.

    def _tag(self, i: int, word: str) -> Tag:
        if not any(letter.isalnum() for letter in word):
            return Tag.CONJUNCTION if word == "&" else Tag.PUNCTUATION
        return (
            self._tag_closed(i, word)
            or self._tag_verb(i, word)
            or self._tag_adjective(i, word)
            or Tag.NOUN
        )

    def _tag_closed(self, i: int, word: str) -> Tag | None:
        """The tag of a word from the closed classes, and of the open-class words that pose as one."""
        before, after = self._before(), self._word(i + 1)
        if word == "'s":
            is_verb = after.endswith("ing") and after not in _ING_NOUNS or self._is_closed(after)
            return Tag.BE if is_verb or before is Tag.PRONOUN else Tag.POSSESSIVE
        if word == "that":
            relative = before in (Tag.NOUN, Tag.VERB) or not self._may_be_noun(i + 1)
            return Tag.PRONOUN if relative else Tag.ARTICLE
        if word == "her":
            return Tag.ARTICLE if self._may_be_noun(i + 1) or after in _QUANTIFIERS else Tag.PRONOUN
        if word in ("these", "those", "this", "whose", "what"):
            determines = self._may_be_noun(i + 1) or after in _QUANTIFIERS
            return Tag.ARTICLE if determines else Tag.PRONOUN
        if word in _ARTICLES:
            return Tag.ARTICLE
        if word in _PRONOUNS:
            return Tag.PRONOUN
        if word == "can":
            if before in (Tag.ARTICLE, Tag.ADJECTIVE, Tag.QUANTIFIER):
                return Tag.NOUN
            kind = _verb_forms().get(after, ("", ""))[1]
            return Tag.BE if kind == "base" or after in ("be", "not") else Tag.NOUN
        if word in _BE:
            return Tag.BE
        if word in _CONJUNCTIONS:
            return Tag.CONJUNCTION
        if word == "one" and not self._may_be_noun(i + 1) and after not in _QUANTIFIERS:
            return Tag.PRONOUN
        if word == "each" and after == "other" or word == "other" and self._word(i - 1) == "each":
            return Tag.PRONOUN
        if word == "another" and (self._word(i - 1) == "one" or not self._may_be_noun(i + 1)):
            return Tag.PRONOUN
        if word in ("all", "both", "each", "some") and before is Tag.NOUN:
            return Tag.ADVERB  # "two men both wearing hats"
        if word in _QUANTIFIERS:
            return Tag.QUANTIFIER
        if word.isdecimal() or re.fullmatch(r"[\d.,:]+", word):
            return Tag.NOUN if before is Tag.NOUN else Tag.QUANTIFIER
        return self._tag_place(i, word)

    def _tag_place(self, i: int, word: str) -> Tag | None:
        """Prepositions and adverbs, and the nouns among their look-alikes ("the inside", "in front of")."""
        before, after = self._before(), self._word(i + 1)
        noun_before = before in (Tag.ARTICLE, Tag.ADJECTIVE, Tag.POSSESSIVE)
        if (
            word in ("front", "top", "back", "between")
            and after == "of"
            and before is Tag.PREPOSITION
        ):
            return Tag.PREPOSITION
        if word in ("inside", "outside", "past", "opposite", "overhead") and noun_before:
            return Tag.ADJECTIVE if self._may_be_noun(i + 1) else Tag.NOUN
        if word == "back":
            return Tag.NOUN if noun_before or before is Tag.PREPOSITION else Tag.ADVERB
        if word == "home":
            return Tag.ADVERB if before is Tag.VERB else Tag.NOUN
        if word == "next":
            return Tag.PREPOSITION if after == "to" else Tag.ADJECTIVE
        if word == "close":
            if after == "up":
                return Tag.NOUN
            return Tag.ADVERB if after == "to" else Tag.ADJECTIVE
        if word == "up" and self._word(i - 1) == "close":
            return Tag.NOUN  # "a close up of a cat"
        if word in ("well", "fast", "hard", "high", "far", "near", "nearby", "overhead") and (
            noun_before or before in (Tag.PREPOSITION, Tag.QUANTIFIER)
        ):
            return Tag.ADJECTIVE if self._may_be_noun(i + 1) else Tag.ADVERB
        if word in _PREPOSITIONS:
            return Tag.PREPOSITION
        if word in _ADVERBS:
            return Tag.ADVERB
        if word.endswith("ly") and word not in _LY_WORDS and len(word) > 4:
            return Tag.ADVERB
        return None

    def _tag_verb(self, i: int, word: str) -> Tag | None:
        """VERB for verbs, ADJECTIVE for participles before nouns, NOUN where a noun is likelier."""
        base, kind = _verb_forms().get(word, (word, ""))
        if not kind and "-" not in word:
            if word.endswith("ing") and len(word) > 5:
                kind = "ing"
            elif word.endswith("ed") and len(word) > 3:
                kind = "past"
        if kind == "ing":
            return self._tag_ing(i, word)
        if kind == "past" and word not in _NOT_PAST:
            return self._tag_past(i, word)
        if kind in ("base", "s"):
            return Tag.VERB if self._is_verb(i, base, kind) else None
        return None

    def _is_verb(self, i: int, base: str, kind: str) -> bool:
        """Whether a base form or an -s form is the verb of its clause rather than a noun."""
        before, word_before = self._before(), self._word(i - 1)
        if before is Tag.ADJECTIVE and self._before(2) is not Tag.BE or before is Tag.ARTICLE:
            return False
        if before is Tag.POSSESSIVE or (before is Tag.QUANTIFIER and kind == "base"):
            return False
        verb_first = base not in _NOUNS_FIRST
        if before is Tag.PRONOUN:
            return True
        if word_before in _MODALS or self._word(i - 2) in _MODALS and before is Tag.ADVERB:
            after = self._word(i + 1)
            return kind == "base" and (verb_first or after in _ARTICLES or after in _PREPOSITIONS)
        if base in _VERBS:
            return before is not Tag.PREPOSITION or word_before in _CLAUSE_OPENERS
        if before is Tag.NOUN:
            return self._is_verb_of_subject(i, kind, verb_first)
        if before is Tag.ADVERB or (before is Tag.PREPOSITION and self._before(2) is Tag.NOUN):
            return before is Tag.ADVERB and verb_first and not self.has_verb
        if before is Tag.CONJUNCTION or (word_before == "," and kind == "s"):
            after = self._word(i + 1)
            return self.has_verb and verb_first and (kind == "s" or self._is_closed(after))
        return False

    def _is_verb_of_subject(self, i: int, kind: str, verb_first: bool) -> bool:
        """The same straight after a noun, which the word may follow as its verb or as its head."""
        start = self._phrase_start()
        opening = self.tags[start]
        governor = self.tags[start - 1] if start else None
        governed = governor in (Tag.PREPOSITION, Tag.VERB)
        after = self._word(i + 1)
        if after in _BE and after not in ("being", "been"):
            return False
        plural = self._is_plural(i - 1)
        if kind == "base":
            several = plural or governor is Tag.CONJUNCTION
            small_clause = governor is Tag.VERB and verb_first and self._is_animate(i - 1)
            return (
                several
                and self._word(i - 1) != "sports"
                and (verb_first or self._is_animate(i - 1))
            ) or (small_clause and not self._may_be_noun(i + 1))
        if plural:
            return False
        determined = opening in (Tag.ARTICLE, Tag.QUANTIFIER)
        if verb_first:
            return determined or not governed
        if self.has_verb and governed:
            return False
        return (
            (self._is_animate(i - 1) and not governed)
            or (self._word(start) in ("a", "an") and not governed)
            or (determined and after in _ARTICLES)
        )

    def _tag_ing(self, i: int, word: str) -> Tag:
        before, after = self._before(), self._word(i + 1)
        noun_after = self._may_be_noun(i + 1)
        if word in _ING_NOUNS or word.removesuffix("s") in _ING_NOUNS:
            acts = before in (Tag.BE, Tag.NOUN) and (after in _ARTICLES or after in _QUANTIFIERS)
            return Tag.VERB if acts else Tag.NOUN
        if (
            word in _COMPOUND_INGS
            and noun_after
            and before is not Tag.BE
            and not self._is_plural(i - 1)
        ):
            if before is not Tag.NOUN and (before is not Tag.PUNCTUATION or i == 0):
                return Tag.ADJECTIVE
            if before is Tag.NOUN and not self._is_animate(i - 1):
                return Tag.ADJECTIVE
        if before in (Tag.ARTICLE, Tag.POSSESSIVE, Tag.QUANTIFIER):
            if noun_after:
                return Tag.ADJECTIVE
            return Tag.VERB if before is Tag.QUANTIFIER else Tag.NOUN
        if before is Tag.ADJECTIVE:
            return Tag.ADJECTIVE if noun_after and self._before(2) is not Tag.BE else Tag.VERB
        if before is None or before is Tag.ADVERB and self._before(2) is Tag.ARTICLE:
            return Tag.ADJECTIVE if noun_after else Tag.VERB
        if before is Tag.PREPOSITION and self._word(i - 1) in (
            "with",
            "of",
            "in",
            "near",
            "behind",
        ):
            return Tag.ADJECTIVE if noun_after and self._is_plural(i + 1) else Tag.VERB
        return Tag.VERB

    def _tag_past(self, i: int, word: str) -> Tag:
        before = self._before()
        noun_after = self._may_be_noun(i + 1)
        if before is Tag.NOUN:
            if word in _IN_COMPOUND and noun_after:
                self.tags[-1] = Tag.ADJECTIVE  # "a snow covered mountain"
                return Tag.ADJECTIVE
            return Tag.VERB
        if not noun_after or before is Tag.PRONOUN:
            return Tag.VERB
        if before is Tag.CONJUNCTION and self._before(2) is not Tag.ADJECTIVE:
            return Tag.VERB
        if before is Tag.BE:
            return Tag.ADJECTIVE if self._is_plural(i + 1) else Tag.VERB
        return Tag.ADJECTIVE

    def _tag_adjective(self, i: int, word: str) -> Tag | None:
        """ADJECTIVE for known ones, by ending or by place; a few nouns that stand before nouns too."""
        before, noun_after = self._before(), self._may_be_noun(i + 1)
        if word == "old" and self._word(i - 1).removesuffix("s") in (
            "year",
            "month",
            "week",
            "day",
        ):
            self.tags[-1] = Tag.ADJECTIVE  # "a two year old boy"
            return Tag.ADJECTIVE
        if word in _SHADES and self._word(i + 1) in _COLORS:
            return Tag.ADJECTIVE
        if word in _NOUNS_BEFORE_NOUNS:
            if noun_after:
                return Tag.ADJECTIVE
            return Tag.NOUN if before is not Tag.BE else Tag.ADJECTIVE
        known = word in _ADJECTIVES or (
            _ADJECTIVE_ENDING.match(word) is not None and word not in _NOT_ADJECTIVES
        )
        if "-" in word:
            last = word.rsplit("-", 1)[1]
            known = known or (
                last.endswith("ed")
                or (last.endswith("ing") and last not in _ING_NOUNS)
                or last in _ADJECTIVES
                or last in ("like", "style", "size", "type", "speed", "level", "sleeve")
            )
        if known:
            return Tag.ADJECTIVE
        if before is Tag.BE and self._word(i - 1) in ("is", "are", "was", "were", "be", "being"):
            bare = not noun_after and not self._is_plural(i) and word.endswith("y")
            return Tag.ADJECTIVE if bare else None
        return None


# Phrases.

_LETTERS = {
    Tag.ARTICLE: "A",
    Tag.QUANTIFIER: "Q",
    Tag.ADJECTIVE: "J",
    Tag.ADVERB: "R",
    Tag.NOUN: "N",
    Tag.POSSESSIVE: "S",
    Tag.VERB: "V",
    Tag.BE: "B",
    Tag.PRONOUN: "P",
    Tag.PREPOSITION: "I",
    Tag.CONJUNCTION: "C",
}
_PHRASE = re.compile(
    r"""
    (?: Q?A?Q*R*J (?:,?C?R*J)* | Q?A?Q*R* (?:J(?:C?J)*)? )   # all the two very tall, dark and old
    N+
    (?: S (?:R*J(?:,?C?R*J)*)? N+ )*                            # 's red hat
    """,
    re.VERBOSE,
)
"""A base noun phrase over the letters of its tags, a comma standing for itself."""


def _phrases(words: list[Word]) -> list[Span]:
    """The noun phrases of tagged words."""
    letters = "".join("," if word.text == "," else _LETTERS.get(word.tag, ".") for word in words)
    return [
        (words[match.start()].span[0], words[match.end() - 1].span[1])
        for match in _PHRASE.finditer(letters)
    ]


# spaCy.


@cache
def _spacy_pipeline() -> Callable[[str], Any] | None:
    """An installed English pipeline of spaCy that finds noun chunks; None without one."""
    if find_spec("spacy") is None:
        return None
    spacy = import_module("spacy")
    for name in sorted(spacy.util.get_installed_models()):
        if name.startswith("en_"):
            pipeline: Callable[[str], Any] = spacy.load(name, exclude=["ner"])
            return pipeline
    return None


def _spacy_phrases(pipeline: Callable[[str], Any], caption: str) -> list[Span]:
    return [
        (chunk.start_char, chunk.end_char)
        for chunk in pipeline(caption).noun_chunks
        if any(token.pos_ in ("NOUN", "PROPN", "NUM", "ADJ") for token in chunk)
    ]
