"""Python tokenizer with the output of Stanford's PTBTokenizer, as pycocoevalcap uses it.

Derived from the program's output, lowercase and without the punctuation that pycocoevalcap removes;
docs/reference/metrics.md has the accuracy. One regular expression runs over all captions at once,
because the treatment of a period after a single letter depends on the first word of the next
caption.
"""

# ruff: noqa: RUF001 - the quotes and dashes are intended

import re
from collections.abc import Iterable

# Marks that are parts of words, by the program's old Unicode tables, and symbols kept as tokens.
_MARKS = (
    "\u02c2-\u0375\u0384\u0385\u0483-\u0487\u055a-\u055f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5"
    "\u05c7\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06fe\u070f-\u07f3\u0900-\u0903\u093c-\u094e"
    "\u0951-\u0955\u0962\u0963\u0981-\u09e3\u0a01-\u0a4d\u0a81-\u0acd\u0b82-\u0bcd\u0c01-\u0c03"
    "\u0c3e-\u0c56\u0d3e-\u0d48\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ecd"
)
_SYMBOLS = (
    "\xa1-\xa9\xac\xae-\xb4\xb6-\xb9\xbc-\xbf\xd7\xf7\u037e\u0387\u0589\u05be\u05c0\u05c3\u05c6"
    "\u05f3-\u0603\u0606-\u060c\u0614\u061b\u061e\u061f\u066a\u066d\u06d4\u0700-\u070d\u0964\u0965"
    "\u0e3f\u0e4f\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038\u203b\u203e-\u2042\u2044\u2070"
    "\u2074-\u207e\u2080-\u208e\u20a0\u20a4\u20ac\u2100\u2101\u2103-\u2106\u2108\u2109\u2114"
    "\u2116-\u2118\u211e-\u2123\u2125\u2127\u2129\u212e\u213a\u213b\u2140-\u2144\u214a-\u214d\u214f"
    "\u2153-\u215e\u2190-\u2bff\u3001\u3002\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40"
    "\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6\x80"
)
_IS_MARK = re.compile(f"[{_MARKS}]").match
_IS_SYMBOL = re.compile(f"[{_SYMBOLS}]").match

# Replacements of tokens; "" for those that pycocoevalcap removes as punctuation.
_PUNCTUATION = "\" ' ` . ? ! , : ; - -- --- ---- ... '' `` ‘ ’ “ ” ‘‘ ’’ ‛ ‹ › « » ‐ ‑ – — ― …"
_QUOTES = {"‘": "`", "’": "'", "“": "``", "”": "''"}
_REWRITTEN = (
    {a + b: _QUOTES[a] + _QUOTES[b] for a in _QUOTES for b in _QUOTES}
    | dict.fromkeys([*_PUNCTUATION.split(), *"\x85\x91\x92\x93\x94\x96\x97"], "")
    | dict.fromkeys(["&quot;", "&apos;", "&nbsp;", "&ndash;", "&mdash;"], "")
    | {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
    | {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
    | {"¢": "cents", "£": "#", "¤": "$", "€": "$", "₠": "$", "\x80": "$"}
    | {"&amp;": "&", "&lt;": "<", "&gt;": ">", "n’t": "n't", "n‘t": "n`t"}
    | {f"’{ending}": f"'{ending}" for ending in ("s", "m", "d", "ll", "ve", "re")}
    | {"cannot": "can not", "gimme": "gim me", "gonna": "gon na"}
    | {"gotta": "got ta", "lemme": "lem me", "wanna": "wan na"}
)


class _Shapes(dict[int, str]):
    """Table for `str.translate` from characters to their class in the pattern, filled lazily.

    Non-ASCII letters become é, digits 5, symbols ¤, characters outside of tokens a tab.
    """

    def __missing__(self, point: int) -> str:
        self[point] = shape = self._shape(chr(point))
        return shape

    @staticmethod
    def _shape(char: str) -> str:
        if "!" <= char <= "~" or char in " \n‘’“”":
            return char
        for shape, alike in (
            (" ", "\xa0"),
            ("‘", "‛‹\x91"),
            ("’", "›\x92"),
            ("“", "«\x93"),
            ("”", "»\x94"),
            ("-", "‐‑\u058a"),
            ('"', "–—―…\x85\x96\x97"),
        ):
            if char in alike:
                return shape
        if char > "\uffff":
            return "\t"
        if _IS_SYMBOL(char):
            return "¤"
        if char.isdecimal():
            return "5"
        return "é" if char.isalpha() or _IS_MARK(char) else "\t"


_SHAPES = _Shapes()

# Abbreviations keep their period. The first kind can end a sentence, so that a single letter after
# the period is a new word ("jan.a"); the second kind cannot ("mr.x" is one word).
_MAY_END = """
    al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc
    ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb
    nev nov oct okla penn plc ppte ppty pte ptes pty ptys rd rt sep sept seq sq sr sys tel tenn thu
    thurs tue tues univ va vt wed wis wisc wyo
"""
_MAY_END_CAPITALIZED = " Ark Az Del Ill La Mass Miss Ore Pa Tex Wash "
_NEVER_END = """
    adj adm adv alex assoc asst atty ave brig capt cf cie cmdr col comdr cpl dept det dr drs ed.d
    elec ens ft gen gov govs hon insp invt jos lieut lt maj messrs mfg mlle mme mr mrs ms msgr mt
    mtg natl pfc ph ph.d pres prof pvt rep reps rev sen sens sfc sgt spc st ste supt treas vs wm
"""
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"
# Before one of these words, a period after a single letter ends the sentence.
_SENTENCE_STARTS = """
    A About According After An As At But He Her Here However If In It Last Many More Now Once One
    Other Our She Since So Some Such That The Their Then There These They This We What When While
    Yet You
"""
_EXTENSIONS = """
    bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov pdf php pl png
    ppt ps py sql tar tar.gz txt wav x xml zip
"""


def _any_of(*words: str) -> str:
    """Return a pattern that matches any of the words."""
    return "(?:" + "|".join(map(re.escape, " ".join(words).split())) + ")"


_LETTER = "[A-Za-z]"
_ASCII = "[A-Za-z0-9]"
_ANY_LETTER = "[A-Za-zé]"
_ANY = "[A-Za-z0-9é]"
_NAME = f"{_ANY_LETTER}{_ANY}*"
_ACRONYM = rf"(?:{_LETTER}\.){{2,}}"
_WORD = f"{_ANY}+(?:_{_ANY}+)*"
_KEPT_PERIOD = r"(?:\.(?=[,:;]))?"  # before a comma, any word is an abbreviation
_APOSTROPHE = "['’`‘]"
_ENDINGS = "(?i:s|d|m|ll|re|ve)"
_PREFIX = f"[dDlLoO]{_APOSTROPHE}(?={_ANY}{{2}})"  # d'Angelo, l'eau, o'clock
_IN_LINK = r'[^\s"<>|()]'
_IN_ADDRESS = r'[^\s"<>|(){}.é]'
_LINK = rf"{_IN_LINK}*[^\s\"<>|().!?,;:'/-]"
_TAG = "[A-Za-z][A-Za-z0-9_:.-]*"
_VALUE = """(?:"[^"\n]*"|'[^'\n]*')"""
_PIECE = f"{_ASCII}+(?:-{_LETTER}+)*"  # between slashes
_MOUTH = r"[()@DOP\[\\\]dp{|]"
_EYES = "[-^x=~<>']_[-^x=~<>']"

# The first match wins, so long tokens come before their prefixes.
_TOKENS = (
    # Most words, as a fast path.
    rf"{_LETTER}+(?=[ \n])",
    rf"(?!(?i:{_any_of(_MAY_END, _MAY_END_CAPITALIZED, _NEVER_END)})\.){_LETTER}{{3,}}(?=[.,]\s)",
    # Tags, emoticons, telephone numbers, "22 3/4".
    rf"</?{_TAG}>|<{_TAG}(?: +{_TAG}(?: *= *{_VALUE})?)* */? *>",
    rf"<(?:!--|[!?]{_LETTER})[^>\n]{{0,199}}>",
    rf"(?:[<>]?[:;=]|[:;=][-*o']){_MOUTH}(?!{_ANY})",
    rf"{_EYES}|\({_EYES}\)",
    r"(?:\+?\d{2,4}[- ])?(?:\(\d{2,3}\)[- ]?|\d{2,4}[- ])\d{3,4}[- ]?\d{3,5}",
    r"\d{1,4}[- ]\d{1,4}/\d{1,4}",
    # Links and addresses.
    rf"https?://[^\s\"<>|().]{{1,99}}\.{_LINK}/?|(?i:www)\.{_LINK}",
    rf"(?:[a-z]+\.)+(?i:com|net|org|edu)/{_IN_LINK}{_LINK}",
    rf"{_ASCII}[^\s\"<>|()é@]{{0,99}}@{_IN_ADDRESS}+(?:\.{_IN_ADDRESS}+)*",
    # Words with slashes or hyphens, file names.
    rf"(?:{_PIECE}/){{1,2}}{_PIECE}",
    rf"{_ASCII}+[.,][A-Za-z0-9.,]{{0,99}}(?:-(?:{_ACRONYM}|{_ASCII}+))+{_KEPT_PERIOD}",
    rf"(?:{_PREFIX})?{_WORD}(?:-(?:{_ACRONYM}|(?:{_PREFIX})?{_WORD}))+{_KEPT_PERIOD}",
    rf"(?:\d+\.)+(?i:{_any_of(_EXTENSIONS)})(?!{_ANY})",
    # Words with periods.
    rf"(?:(?i:{_any_of(_MAY_END)})|"
    rf"{_any_of(_MAY_END_CAPITALIZED, _MAY_END_CAPITALIZED.upper())})\."
    rf"(?!{_ANY_LETTER}(?:{_ANY}|\.{_ANY_LETTER})|-{_ANY}{{2}})",
    rf"(?:{_ACRONYM}|(?i:{_any_of(_NEVER_END)})\.)(?!{_ANY_LETTER})",
    rf"{_NAME}(?:[.!?]{_NAME})+{_KEPT_PERIOD}",
    rf"(?i:{_any_of(_BEFORE_NUMBERS)})\.(?=\s?\d)",
    rf"{_LETTER}(?=\.\s+{_any_of(_SENTENCE_STARTS, _SENTENCE_STARTS.upper())}\s)|{_LETTER}\.",
    # Words with apostrophes.
    rf"{_LETTER}+?(?<![nN])(?=[nN]{_APOSTROPHE}[tT])|[nN]{_APOSTROPHE}[tT](?!{_LETTER})",
    rf"{_PREFIX}{_ANY}+|[A-HJ-XZn]{_APOSTROPHE}{_ANY_LETTER}{{2,}}",
    rf"{_ANY_LETTER}+[aeiouyAEIOUY]{_APOSTROPHE}(?!{_ENDINGS}(?!{_LETTER}))[aeiouA-Z]{_LETTER}*",
    "(?i:c'mon|c'est|e'er|o['’`]o|cap['’]n|nat['’]l)",
    rf"[dDlL]['’](?!(?i:[dms])(?!{_ANY_LETTER}))",
    r"(?:[jJ]|[oO][lL])['’](?!(?i:[dms]))|[yY]['’](?=(?i:[a-z]))(?!(?i:[dms]))",
    r"[‘’“”]{2}|''|``",
    rf"'{_ENDINGS}(?!{_LETTER})|’{_ENDINGS}|’[nN]['’]?|'[nN](?:['’]|(?=\s))",
    r"['’](?:\d0s|\d\d(?=\s)|(?i:em|till?|cause))|'(?i:t(?=is|was))",
    # Dashes, numbers, and plain words.
    r"-{5,}|-(?i:[lr][rsc]b)-|--+",
    r"[+-]?\d*(?:[.,:]\d+)+|[+-]\d+",
    rf"[A-Z]+\$|[A-Z]+(?:[&+][A-Z]+)+{_KEPT_PERIOD}|(?i:c\+\+|[cf]#)",
    f"{_WORD}{_KEPT_PERIOD}",
    # The rest.
    r"@[A-Za-z_][A-Za-z0-9_]*|@+|#[A-Za-z]+|#+|\*+|_+|[!?]+|<<|>>|\\\*|&#\d+;",
    r"&(?i:amp|lt|gt|quot|apos|nbsp|ndash|mdash|[aeiou](?:acute|grave|uml));",
    r"\.\.\.|\S|\n",
)
_TOKEN = re.compile(rf"[ \t]*+({'|'.join(_TOKENS)})")


def tokenize(captions: Iterable[str]) -> list[str]:
    """Return the tokens of each caption, lowercase and separated by single spaces.

    All line separators count as spaces, so that there is one result per caption.
    """
    text = "".join(caption.replace("\n", " ").replace("\xad", "") + "\n" for caption in captions)
    lines = []
    words: list[str] = []
    for match in _TOKEN.finditer(text.translate(_SHAPES)):
        word = text[match.start(1) : match.end(1)].lower()
        if word == "\n":
            lines.append(" ".join(words))
            words = []
            continue
        if len(word) > 1 and (" " in word or "(" in word or ")" in word):
            word = word.replace(" ", "\xa0").replace("(", "-lrb-").replace(")", "-rrb-")
        word = _REWRITTEN.get(word, word)
        if word:
            words.append(word)
    return lines
