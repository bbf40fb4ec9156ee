"""Tokens equal the output of Stanford's program without pycocoevalcap's punctuation."""

# ruff: noqa: RUF001 - the quotes and dashes are intended

import gzip
import json
import random
import subprocess
import time
from pathlib import Path

import pytest
from pycocoevalcap.tokenizer import ptbtokenizer

from yolor_d2.evaluation.caption.java_metrics import JavaError, find_java
from yolor_d2.evaluation.caption.ptb import tokenize

PRINTED = {
    # Periods, commas, other punctuation.
    "": "",
    "  \t ": "",
    ". ": "",
    "?!": "?!",
    "A dog.": "a dog",
    "one, two;three: four - five -- six ... seven": "one two three four five six seven",
    "Really?? yes!!! no! hello.World a.B.c a!b": "really ?? yes !!! no hello.world a.b.c a!b",
    "garage. . river . .": "garage river",
    "a ... b -- c - d _ e ' f ` g -----": "a b c d _ e f g -----",
    # Abbreviations.
    "12:30 p.m. on St. Mary's Ave., U.S. #1 & co.": (
        "12:30 p.m. on st. mary 's ave. u.s. # 1 & co."
    ),
    "Sunset Blvd. and Jan. 5, etc. The oz. no. 5 no. Five fig.5": (
        "sunset blvd. and jan. 5 etc. the oz no. 5 no five fig. 5"
    ),
    "Ill. ill. Mass. mass. jan.a jan.abc mr.x Ph.D. e.g. U.S.A U.S.-based": (
        "ill. ill mass. mass jan. a jan.abc mr.x ph.d. e.g. u.s.a u.s.-based"
    ),
    "lb., 5., hello.": "lb. 5. hello",
    # Contractions and apostrophes.
    "A man isn't riding the horse's saddle; it's dogs' toys": (
        "a man is n't riding the horse 's saddle it 's dogs toys"
    ),
    "cannot gonna wanna gotta gimme lemme Cannots": (
        "can not gon na wan na got ta gim me lem me cannots"
    ),
    "it'll they've we're I'd I'm couldn't've": "it 'll they 've we 're i 'd i 'm could n't 've",
    "o'clock O'Brien ma'am y'all d'Angelo l'eau c'mon jack-o'-lantern": (
        "o'clock o'brien ma'am y' all d'angelo l'eau c'mon jack-o lantern"
    ),
    "rock 'n' roll 'em 'til 'tis '90s '08 '08. '8 5'10\"": (
        "rock 'n' roll 'em 'til 't is '90s '08 08 8 5 10"
    ),
    "GIRAFFE'S don`t onn't": "giraffe 's do n`t onn t",
    # Numbers.
    "22 3/4 1/2 5 1/2-inch 22\t3/4 11/9/2001 1,000.50 -5 +5.5 5-6 5.5-5": (
        "22\xa03/4 1/2 5\xa01/2 inch 22 3/4 11/9/2001 1,000.50 -5 +5.5 5-6 5.5-5"
    ),
    "10% $3.50 US$5 1st 12:30pm 10pm v2.0 4x4 2.x": (
        "10 % $ 3.50 us$ 5 1st 12:30 pm 10pm v2 .0 4x4 2.x"
    ),
    "x (555) 555-1234 or 555-1234": "x -lrb-555-rrb-\xa0555-1234 or 555-1234",
    # Hyphens, slashes, symbols.
    "black-and-white t-shirt/jacket and/or w/ a/b/c/d hello,world-wide a_b": (
        "black-and-white t-shirt/jacket and/or w / a/b/c / d hello,world-wide a_b"
    ),
    "AT&T at&t R&B #tag @me joe@x.com, http://x.com/a. ab.com/xy": (
        "at&t at & t r&b #tag @me joe@x.com, http://x.com/a ab.com/xy"
    ),
    "|||": "| | |",
    '&amp; &lt; &quot; <b> <a href="x"> <3': '& < <b> <a\xa0href="x"> < 3',
    ":) ;-( :D ^_^ :)a": ":-rrb- ;--lrb- :d ^_^ -rrb- a",
    # Brackets and quotes.
    '"Hello" said the sign (in red) [maybe] {no}.': (
        "hello said the sign -lrb- in red -rrb- -lsb- maybe -rsb- -lcb- no -rcb-"
    ),
    "''two'' ``back'' \"tie.\" 'a'": "two back tie a",
    "“double” ‘single’ don’t it’s o’clock ’90s “‘both’”": (
        "double single do n't it 's o’clock ’90s ``` both '''"
    ),
    # Beyond ASCII.
    "café 日本語 naïve – “quoted” ½ €5 £3 5¢ 1½": (
        "café 日本語 naïve quoted 1/2 $ 5 # 3 5 cents 1 1/2"
    ),
    "a dog 🐶 and a cat🐱play ❤️ ☺☺ 20° H₂O ÇA": "a dog and a cat play ❤ ☺ ☺ 20 ° h ₂ o ça",
    "日本、語。 हिन्दी e\u0301 soft\xadhyphen zero\u200bwidth a\xa0b \U0001d400": (
        "日本 、 語 。 हिन्दी e\u0301 softhyphen zero width a b"
    ),
    "a…b \x85 c—d \ud800 e\x00f": "a b c d e f",
    "x" * 300: "x" * 300,
}


@pytest.mark.parametrize("caption", PRINTED)
def test_tokens_equal_the_output_of_the_program(caption: str) -> None:
    assert tokenize([caption, "zz"]) == [PRINTED[caption], "zz"]


def test_line_separators_do_not_split_captions() -> None:
    separators = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"]
    captions = [f"a man{separator}on a horse{separator}" for separator in separators]
    assert tokenize([*captions, "", "end"]) == ["a man on a horse"] * len(captions) + ["", "end"]
    assert tokenize([]) == []
    assert tokenize([""]) == [""]


def test_a_period_after_one_letter_depends_on_the_next_caption() -> None:
    assert tokenize(["plan b.", "A man"]) == ["plan b", "a man"]
    assert tokenize(["plan b.", "a man", "I. The"]) == ["plan b.", "a man", "i the"]


@pytest.mark.parametrize(
    "text", [" ", "\t", "a,", "http://", "<!a ", "<a b='", "a'", "_", "1 ", "("]
)
def test_time_is_linear_in_the_length(text: str) -> None:
    start = time.process_time()
    tokenize([text * 2000])
    assert time.process_time() - start < 5


def test_golden_captions(shared_dir: Path) -> None:
    folder = shared_dir / "golden/captions"
    tokenized = json.loads((folder / "tokenized.json").read_text())
    captions: dict[str, list[str]] = {}
    for entry in json.loads((folder / "gt.json").read_text())["annotations"]:
        captions.setdefault(str(entry["image_id"]), []).append(entry["caption"])
    words = iter(tokenize(text for texts in captions.values() for text in texts))
    assert {i: [next(words) for _ in texts] for i, texts in captions.items()} == tokenized["refs"]
    for name in ("human", "constant", "edge", "copy"):
        entries = json.loads((folder / f"cand_{name}.json").read_text())
        words = tokenize(entry["caption"] for entry in entries)
        ids = [str(entry["image_id"]) for entry in entries]
        assert dict(zip(ids, words, strict=True)) == tokenized[name]


def by_java(captions: list[str], folder: Path) -> list[str]:
    """Tokenize captions without line separators with the program itself."""
    path = folder / "captions.txt"
    path.write_text("\n".join(captions), newline="\n")
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    name = "edu.stanford.nlp.process.PTBTokenizer"
    command = [find_java(), "-cp", str(jar), name, "-preserveLines", "-lowerCase", str(path)]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=200).stdout.decode()
    lines = printed.split("\n")[: len(captions)]
    removed = ptbtokenizer.PUNCTUATIONS
    return [" ".join(w for w in line.rstrip().split(" ") if w not in removed) for line in lines]


@pytest.mark.slow
def test_all_real_and_nearly_all_damaged_captions_are_equal(
    shared_dir: Path, tmp_path: Path
) -> None:
    try:
        find_java()
    except JavaError as error:
        pytest.skip(str(error))
    text = gzip.decompress((shared_dir / "data/captions_val2017.txt.gz").read_bytes()).decode()
    captions = text.splitlines()
    assert len(captions) == 25014
    assert tokenize(captions) == by_java(captions, tmp_path)

    rng = random.Random(0)
    marks = [*"'\".,-/()!?:;&#$%0123456789’“”…½", "'s", "n't", "...", "--", "St. ", "p.m.", " 1/2"]
    damaged = []
    for _ in range(20000):
        caption = rng.choice(captions)
        for _ in range(3):
            start = rng.randrange(len(caption) + 1)
            caption = caption[:start] + rng.choice(marks) + caption[start + rng.randrange(2) :]
        damaged.append(caption)
    pairs = zip(tokenize(damaged), by_java(damaged, tmp_path), strict=True)
    assert sum(words != printed for words, printed in pairs) <= 10
