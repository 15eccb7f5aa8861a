"""Words of English captions, for the chunker in `nouns.py`.

Data only: closed word classes in full, and of the open classes the words whose form alone would
mislead the rules. Written by hand while reading captions of photographs; knows no rules.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = _words("a an every his its my our the their these this those what whose your")
"""Before a noun phrase: articles, demonstratives and possessives."""

NUMBERS = _words(
    """eight eighteen eleven fifteen fifty five forty four fourteen hundred nine nineteen seven
    seventeen six sixteen ten thirteen thirty thousand three twelve twenty two
    """
)
"""Number words above one."""

QUANTIFIERS = NUMBERS | _words(
    """all another any both each either enough few half many more most much neither no one several
    some such
    """
)
"""Words of quantity."""

PRONOUNS = _words(
    """anybody anyone anything eachother everybody everyone everything he her hers herself him
    himself i it itself me mine myself nobody nothing others ours she somebody someone something
    theirs them themselves they us we whatever which who whom you yourself
    """
)
"""Pronouns, which are never phrases."""

RELATIVES = _words("that which who whom")
"""Pronouns that open a clause."""

SUBJECTS = _words("he i she they we which who")
"""Pronouns that a verb follows."""

PREPOSITIONS = _words(
    """aboard about above across after against along alongside although amid amidst among amongst
    around as aside at atop because before behind below beneath beside besides between beyond by
    despite down during except for from how if in inside into like near of off on onto out
    outside over past per round since than though through throughout till to toward towards under
    underneath unless until unto up upon versus via vs when where whether while whilst why with
    within without
    """
)
"""Prepositions, verb particles and subordinating conjunctions."""

CLAUSE_OPENERS = _words(
    """after although as because before if since though until when where while whilst
    """
)
"""Those after which a new subject may come."""

CONJUNCTIONS = _words("& and but nor or plus yet")
"""Coordinating conjunctions."""

BE = _words(
    """'d 'll 'm 're 've ain't am are aren't be been being can cannot could did do does had has have
    having is isn't may might must n't should was were will would
    """
)
"""Forms of "be", "have" and "do", and modal verbs."""

MODALS = _words("'d 'll can cannot could did do does may might must n't should to will would")
"""Words that the base form of a verb follows."""

ADVERBS = _words(
    """abreast ago ahead airborne almost aloft alone already also always apart ashore aside asleep
    awake away backward backwards barefoot barely downhill downstairs downtown downward downwards
    else even ever far fast forward forwards hard headfirst here high highly indoors inland
    instead just maybe mid-air midair near nearby never not now offshore often once online only
    onstage outdoors overhead perhaps quite rather really sideways so somewhat somewhere soon
    still then there thus today together tonight too twice uphill upright upside-down upstairs
    upward upwards very well yesterday
    """
)
"""Adverbs that do not end in -ly."""

LY_WORDS = _words(
    """anomaly assembly belly bully butterfly chilly cuddly curly doily dragonfly elderly family
    firefly fly friendly gully hilly holly homily italy jelly jolly lily lively lonely lovely
    monopoly oily only potbelly rally reply silly smelly supply surly ugly wily woolly wooly
    wrinkly
    """
)
"""Words in -ly that are no adverbs."""

COLORS = _words(
    """beige black blond blonde blue brown brunette crimson golden gray green grey magenta maroon
    pink purple red scarlet tan teal turquoise violet white yellow
    """
)
"""Adjectives of colour."""

SHADES = _words("baby forest lime navy neon olive pastel powder royal sky")
"""Nouns that modify a colour: "navy blue"."""

ADJECTIVES = COLORS | _words(
    """able abstract active adorable adult aerial afraid african alert alike alive american amused
    ancient angry antique arabic artificial asian asleep assorted athletic attractive average
    awake aware bad baggy bald bare beautiful big bigger bitter blank blind blurry bold boring
    brave brief bright brilliant british broad bulky burly busy calm careful careless casual
    caucasian cheap cheerful chinese choppy chubby circular classic clean clear clever close
    closer cloudy coarse cold colorful colourful comfortable commercial common complete cool
    crazy crisp crispy crooked crowded crude crusty curious cute damp dangerous dark dead deep
    delicious dense different difficult digital dim dirty distant double dreary dry dual dull
    dusky dusty eager early eastern easy elaborate electric electrical electronic elegant empty
    english enormous equal ethnic european excited exotic expensive extra extreme facial faint
    fair familiar famous fancy fat fatty female few fierce fine firm first flat flexible floral
    fluffy foggy foreign formal french fresh friendly frilly frosty frozen frustrated full fun
    funny furry fuzzy gentle german giant gigantic glad glassy glossy good gorgeous graceful
    grand grassy gravel greasy great greek grimy gross hairy handsome handy happy harsh hazy
    healthy heavy hefty high-rise hilly historic hollow homemade horizontal hot huge humid hungry
    icy ideal identical immature important indian indoor industrial inflatable inner innocent
    intense intent interesting irish italian japanese juicy jumbo junior key lanky large larger
    last late lazy leafless leafy lean left light likely lit little live loaded local lofty lone
    long longer loose loud low lower lush mad made magnificent main major male marble massive
    mature mechanical medieval medium messy metallic mexican mid middle-aged mild military mini
    miniature minor misty mobile modern moist mossy muddy multicolor multicolored multicoloured
    multiple murky muscular naked narrow nasty national natural near neat nervous new next nice
    nicer noisy normal northern nude numerous obese oblong odd old older oncoming ongoing open
    opposite ordinary oriental ornate other outdoor outer outgoing outstanding oval overcast
    overgrown overhead oversized overweight own pale parallel partial patchy peaceful perfect
    petite plaid plain playful pleasant plump plush polar polite poor popular portable pregnant
    pretty previous prior private professional prone proper proud public puffy pure quaint quick
    quiet ragged rainy random rare raw ready real rear recent rectangular regular renowned
    residential rich ripe rocky romantic roomy rotten rough round rugged rural russian rustic
    rusty sad safe same sandy scary scenic scrawny scruffy second secure separate sepia serious
    severe shabby shady shaggy shallow shapely sharp sheer sheltered shiny shirtless short
    shorter showy sick similar simple single skinny sleek sleepy slender slick slight slim
    slippery slow small smaller smart smooth snowy snug soapy soft solar sole solid sour southern
    spacious spanish spare special spicy spiky spiral spotty stainless stale standard stark
    static steamy steep sticky stiff stormy straight strange stringy strong stubborn stubby
    sturdy stylish sudden sudsy suitable sunny super sure surprised swampy sweaty sweet swift
    tall taller tame tasty teenage tender terrible thick thin third tidy tight tiny tired topless
    tough toy traditional transparent trendy tribal tropical true typical unattended underwater
    uneven unique unknown unlit unripe unusual upcoming upper upset upside urban usual vacant
    vague various vast vertical vibrant vintage violent visible vivid warm wary weak wealthy
    weary weedy weird western wet whole wicked wide wild windy wireless wise wonderful wooded
    wooden woody worn woven wrong young younger yummy
    """
)
"""Adjectives that captions use."""

HEADS = _words(
    """adult american asian blond blonde brunette chinese double elderly giant individual japanese
    light minor native old oval plain public round square toy wild young
    """
)
"""Adjectives that can stand for a noun: "the elderly", "a grassy plain"."""

MATERIALS_AND_PLACES = _words(
    """adult back bottom brick concrete cotton cream denim female front glass gold leather left lime
    male metal middle navy orange peach plastic right rose royal side silver sky steel stone teal
    top toy wood
    """
)
"""Nouns that stand before nouns like adjectives: "silver car", "front door"."""

NOT_ADJECTIVES = _words(
    """adhesive alternative archive arctic armful arrest attic basketful bowlful bucketful clinic
    collective comic contest critic crucible cubic cupful detective ethnic executive fabric
    fanatic finish fistful forest graphic handful harvest interest locomotive mechanic medic
    mosaic motive mouthful music native objective panic pelvic perspective picnic plastic
    plateful polish priest public radish relative relic relish rubbish spoonful syllable topic
    traffic tunic vegetable
    """
)
"""Words with the ending of an adjective that are none."""

ANIMATE = _words(
    """adult animal apprentice artist athlete baby baker band barber bear biker bird boy boys bride
    brother bull calf carpenter cat chef chicken child children climber cook couple cow crowd
    customer cyclist dad dancer daughter deer diver doctor dog driver duck elephant family farmer
    father fawn female firefighter fisherman fox friend frog gentleman giraffe girl girls goat
    goose gorilla groom group guest guy hen hiker hippo horse infant jogger juggler kangaroo kid
    king kitten lady lamb leopard lion magician male man mechanic men model mom monkey mother
    mouse musician nurse officer otter panda parrot passenger pedestrian penguin people person
    pet photographer pig pigeon pilot pirate player pony pup puppy queen rabbit rider rower
    runner sailor seagull seal sheep sheriff sister skateboarder skater skier snowboarder soldier
    someone son squirrel student surfer swan swimmer swordsman teacher team teen teenager tiger
    toddler tourist turtle vet visitor waiter waitress whale wolf woman women worker youth zebra
    """
)
"""Who does things in captions."""

COLLECTIVES = _words("band bunch couple crowd family group pair team trio")
"""Singular nouns that a plural verb may follow."""

PLURALS = _words(
    """calves cattle children deer feet fish geese men mice oxen people police sheep teeth wolves
    women
    """
)
"""Plurals without -s."""

SINGULARS_IN_S = _words(
    """access actress address atlas boss brass bus business cactus canvas canvass chess christmas
    class compass cross dress fortress gas glass grass harness hippopotamus hostess iris kiss
    lens mass mattress mistress moss octopus pass press princess process seamstress tennis
    waitress walrus
    """
)
"""Singular nouns in -s."""

VERBS = _words(
    """accompany add adjust admire adorn advertise allow appear apply approach arrange arrive ask
    assemble assist attach attend attract bake bathe become beg begin bend blow bounce bring
    browse build bundle burn buy cache carry celebrate chat chew chop clap clear cling collect
    come compete concentrate conduct congregate connect consist consume contain contemplate
    continue converse crawl create crouch cuddle cut dangle decide decorate deliver demonstrate
    depict descend destroy devour dig dine direct discuss dive do donate drag drape dribble drift
    eat embrace emerge enclose encourage enjoy enter entertain erode examine explain explore
    expose extend extinguish feed fill fix flee fling follow frolic gallop gather gaze get give
    glance glide glower gnaw go grab grasp graze greet grind grow hail hang happen hatch hear
    hesitate hide hoist hold hop hover huddle hug hurl ignore illuminate imitate include inform
    inhale inspect install interact intertwine introduce invite jog juggle jut kayak keep kick
    kneel know lather lay lean leap learn let lick lie listen live locate loom lounge lower lurk
    maneuver march meditate meet melt mingle mow munch near need nestle nibble nod notice nuzzle
    obey observe occupy offer ogle open operate overlook own participate peck peer perform
    persuade pick plunge poke ponder pounce pour preach prefer preform prepare press pretend
    propel protect protest prowl pursue put quarrel raise rappel read receive recite recline
    recreate reflect refuse relax rely remove repair resemble resurface retrieve reveal rinse
    rise roam roast romp rub salvage say scatter scrape scrub scurry see seem select sell send
    separate sew sharpen shave shine shiver shove show sing sit skim slam sleep slither slurp
    smash sneak sniff snuggle soak soar soothe speak spill splatter sprawl squat squeeze squint
    squirt stare steal steer stir stoop stroll strut stumble suckle surround suspend swallow swap
    swat sweep swerve swoop tackle take teach tease tell thank thrive throw toil tow trample trot
    trudge try tug tumble twirl undergo unfold unite unload unpack unwrap use vanish waddle wade
    wag wait wake wander want wear weave weld whisper whistle wield wiggle wipe wobble wow
    wrestle write yawn yell
    """
)
"""Verbs that are hardly ever nouns in captions."""

VERBS_OR_NOUNS = _words(
    """attempt bark bat bite blow bow brush catch charge chase check cheer climb cook crash cross
    cruise dance dash drink drive drop echo exit fall fight fish flip float fly gallop grin guard
    help hike hit hurdle jump kiss laugh lead lift load look lounge lunge make march move nap
    paint parade pass peek peel perch pitch play point pose practice prop pull push race reach
    rest return ride roll run rush sail salute scream serve shake share shelter shoot sip skate
    skateboard sketch ski skip slide smell smile smoke snack sneeze snowboard spin splash spray
    sprint stalk stand stare start step stick stop stretch strike stroll struggle surf sweep swim
    swing talk taste tilt toss touch travel trek turn type visit walk wash watch work wrap
    """
)
"""Verbs whose forms are nouns too, where the verb is the better guess."""

NOUNS_OR_VERBS = _words(
    """bike block board boat book box bridge camp cart cast circle close coach comb court cover
    crowd cup curl deck desk dish display divide dock double dress dust end face fan farm feature
    fence field film fire flash flower frame front glass grill ground guide hand handle head herd
    hose house ice joint judge kite label land lap leash leave light line load lock mark market
    mask match mirror mop mount nurse order pack paddle park pattern pedal pet phone picture
    place plane plant plate pocket pool post present print raft rail rain ram record ring ripple
    rock rope row saddle salad sand saw scale scoop score screen seat set shade shape shelter
    ship shop shovel shower sign sink skid skirt sled slice sling slope snow sock sort sound
    speed spot spread square squash stack stage stamp star station stem stock stone store storm
    strap stream string strip study style suit sun support surface swarm table tag tap tape team
    tether tie tile tip tool top tour track trail train tree trick trim trip trunk tube vault
    view voice wall water wave weather wedge wheel whip wind wing yard zip
    """
)
"""Nouns whose forms are verbs too, where the noun is the better guess."""

PAST_FORMS = _words(
    """ate became began bent bit bitten blew blown bought bound broke broken brought built burnt
    came caught chose chosen clung crept cut dealt did done dove drank drawn drew driven drove
    drunk dug eaten fallen fed fell felt fled flew flown fought found froze gave given gone got
    gotten grew grown had heard held hid hidden hit hung hurt kept knelt knew known laid lain
    leapt led lent lit lost made met overgrown paid put ran rang ridden risen rode rose run said
    sang sank sat seen sent set sewn shaken shone shook shorn shot shown shut slept slid slung
    sold sought spent spoke spoken spread sprung spun stole stolen stood strewn struck strung
    stuck stung sung sunk swam swept swum swung taken taught thought threw thrown thrust told
    took tore torn understood went withdrawn woke wore worn wound woven written wrote
    """
)
"""Irregular past forms and participles."""

NOT_PAST = _words(
    """airbed bed biped bleed bloodshed bobsled breed embed feed flatbed fred greed hundred kneed
    med moped naked need red reed riverbed seabed seed shed sled speed steed streambed sunbed ted
    watershed weed wicked
    """
)
"""Words in -ed that are no past forms."""

ING_NOUNS = _words(
    """awning bedding being building carpeting carving ceiling clearing clippings clothing crossing
    drawing dressing duckling dumpling earring evening filling flooring frosting gathering
    herring housing icing king landing lettering lighting lightning lining meeting morning
    opening outing painting paneling parking plumbing pudding railing ring scaffolding seating
    seedling setting sibling siding sling spring starling stocking string stuffing swing thing
    topping viewing viking wedding wing wiring wrapping writing
    """
)
"""Nouns in -ing."""

PURPOSES = _words(
    """baking bathing boarding bowling boxing camping carving changing chewing cleaning climbing
    coloring cooking cutting dancing dining dressing drinking driving drying fencing ferris
    fighting fishing flying folding frying hiking ironing jumping landing laughing living loading
    measuring meeting mixing moving operating parking playing potting racing reading riding
    rocking rowing running sailing serving sewing shaving shipping shooting shopping skating
    skiing sleeping sliding sporting steering surfing swimming swinging trading training vending
    waiting walking washing watering wedding weighing welding whipping wrapping writing
    """
)
"""Words in -ing that say what the noun after them is for: "dining table", "climbing rope"."""

ROOM_PURPOSES = _words(
    """baking bathing cutting dining frying living mixing parking sewing shopping swimming vending
    washing
    """
)
"""Those that do so even after another noun: "kitchen dining table"."""

PARTICIPLES_AFTER_NOUNS = _words(
    """based clad coated colored coloured covered cut drawn drenched eyed faced filled flavored
    frosted glazed haired headed held laden lined operated paneled paved powered printed shaped
    sized stained strewn striped themed tiled topped trimmed
    """
)
"""Participles that form an adjective with the noun before: "snow covered mountain"."""

SPORTS = {
    "rock": ("climbing",),
    "ice": ("skating", "climbing", "fishing"),
    "horseback": ("riding",),
    "kite": ("surfing", "boarding", "flying", "sailing"),
    "wind": ("surfing", "sailing"),
    "snow": ("boarding", "skiing", "sledding"),
    "skate": ("boarding",),
    "water": ("skiing", "rafting"),
    "wake": ("boarding",),
    "roller": ("skating", "blading"),
    "bungee": ("jumping",),
    "dirt": ("biking",),
}
"""Verbs of two words, the noun that starts each: "a man rock climbing"."""
