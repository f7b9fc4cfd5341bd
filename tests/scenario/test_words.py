"""Words: quotes and variables as in a POSIX shell, and back."""

from hypothesis import example, given
from hypothesis import strategies as st

from memshell.scenario.expression import Names, Number
from memshell.scenario.syntax import parse_text
from memshell.scenario.words import expand, quote

NAMES = Names({}.__getitem__, {"i": Number(7), "size": Number(128 << 20, 1)})


def test_quotes_and_variables():
    words = {"a$i": "a7", "${size}x": "128Mx", "'$i'": "$i", '"$i b"': "7 b", r"\$i": "$i", "a\"b c\"'d'": "ab cd"}
    assert {word: expand(word, NAMES) for word in words} == words


@example("--")
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00\r"), min_size=1))
def test_a_quoted_word_is_read_back_as_it_was(word):
    # The journal and `save` write quoted words; a machine must come back the same.
    (step,) = parse_text(f"cmd {quote(word)}", "f")
    assert [expand(part, NAMES) for part in step.words] == ["cmd", word]
