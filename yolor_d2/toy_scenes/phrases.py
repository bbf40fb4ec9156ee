"""Phrases of toy captions for each fact, used to write and to parse captions."""

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NOUNS: dict[str, tuple[str, ...]] = {
    "meadow": ("meadow", "green field", "grassy hill"),
    "alp": ("mountain meadow", "green valley below mountains", "mountain landscape"),
    "lake": ("mountain lake", "lake below mountains", "wide lake"),
    "pond": ("grassy shore", "green lakeside", "meadow by the water"),
    "beach": ("beach", "sandy beach", "sandy shore"),
    "desert": ("desert", "sandy plain", "sand dune"),
    "sea": ("sea", "wide ocean", "calm sea"),
    "snowfield": ("snowfield", "snowy plain", "winter landscape"),
    "glacier": ("snowy valley", "winter landscape with mountains", "snowfield below mountains"),
    "room": ("room", "room with a bare floor", "room with a wooden floor"),
    "lounge": ("room with a carpet", "living room", "room with a rug on the floor"),
}
WHERE: dict[str, tuple[str, ...]] = {
    "meadow": ("in the meadow", "in the countryside"),
    "alp": ("in the mountains", "in a green valley"),
    "lake": ("at the lake", "by the mountains"),
    "pond": ("by the water", "at the shore"),
    "beach": ("at the beach", "at the seaside"),
    "desert": ("in the desert", "among the dunes"),
    "sea": ("at sea", "out at sea"),
    "snowfield": ("in winter", "in a snowy landscape"),
    "glacier": ("in the snowy mountains", "in winter"),
    "room": ("in the room", "indoors"),
    "lounge": ("in the living room", "inside a room"),
}
# Phrases that also describe other settings: a room with a carpet is a room.
TRUE_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "alp": ("meadow", "in the meadow", "in the countryside", "by the mountains"),
    "lake": ("mountain landscape", "in the mountains", "by the water"),
    "pond": ("meadow", "in the meadow", "in the countryside"),
    "beach": ("by the water", "at the shore"),
    "glacier": (
        "snowfield",
        "winter landscape",
        "in a snowy landscape",
        "mountain landscape",
        "in the mountains",
        "by the mountains",
    ),
    "room": ("inside a room",),
    "lounge": ("room", "in the room", "indoors"),
}
WHEN: dict[str, tuple[str, ...]] = {
    "clear": ("under a blue sky", "on a sunny day", "on a bright day"),
    "cloudy": ("under a cloudy sky", "on a cloudy day", "under gray clouds"),
    "sunset": ("at sunset", "under an orange sky", "in the evening"),
}
PLACES: dict[str, tuple[str, ...]] = {
    "sky": ("in the sky", "up in the sky", "in the air"),
    "mountain": ("in front of the mountains",),
    "water": ("on the water",),
    "grass": ("on the grass", "on the green grass"),
    "sand": ("on the sand",),
    "snow": ("on the snow", "on the white snow"),
    "wall": ("on the wall", "in front of the wall"),
    "floor": ("on the floor", "on the wooden floor"),
    "carpet": ("on the carpet", "on the rug"),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of", "on the left side of"),
    "right": ("to the right of", "right of", "on the right side of"),
    "above": ("above", "higher up than"),
    "below": ("below", "lower than"),
    "larger": ("larger than", "bigger than"),
    "smaller": ("smaller than",),
}
EMPTY = (
    "an empty {noun} {when}",
    "there is nothing {where}",
    "{a_noun} without any objects",
    "no objects can be seen {where} {when}",
    "nothing but {stuff}",
    "a view of {a_noun} {when} and nothing else",
    "the picture shows only {stuff}",
    "{when_or_where} the {noun} is empty",
)

SHOWING = ("this picture shows", "we see", "one can see", "the image contains")
FRAMES = (" of the picture", " of the scene", " of this image")
MANY = ("many", "lots of")  # Of a crowd, with a plural verb.
CROWD = ("a crowd of", "a group of")  # Of a crowd, with a singular verb.
HANGING = ("float", "hover")
STANDING = ("lie", "rest", "sit")
ANYTHING = ("shapes", "objects", "things")


def with_article(words: str) -> str:
    """Prepend "a" or "an"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def number_word(count: int) -> str:
    """Return a number as written in captions."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def plural(thing: str) -> str:
    """Return the plural of a class name."""
    return thing + ("es" if thing[-1] in "xs" else "s")


def join(words: list[str]) -> str:
    """Join words with commas and "and"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
