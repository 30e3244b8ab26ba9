"""Whether an answer is in another language than the one expected: a rule of thumb over common words.

Titles are the difficulty: a recommender that answers in English names French and German films. So titles that can be
told (in quotation marks, before a year, in a list) are left out first, and of another language only those words count
that make sentences (pronouns, verbs, conjunctions), not the articles and prepositions that titles consist of.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# The words that make sentences. None of them is an English word.
_SENTENCE: Final[dict[str, frozenset[str]]] = {
    "es": _set(
        "es está están estás estoy eres soy hay tiene tienes tengo puede puedes puedo podría quieres quiero "
        "gusta gustan gustaría gustó prefieres te tú usted yo pero muy también porque cuando creo recomiendo "
        "recomendaría película películas qué cómo cuál si has más algo alguna hola gracias claro ver visto "
        "sobre"
    ),
    "fr": _set(
        "est sont suis êtes avez avons ai j'ai c'est n'est ne pas vous je il elle nous très mais aussi peux "
        "pouvez voulez voudrais aimez aimes aime préférez recommande recommander films quel quelle quels "
        "parce bonjour bien sûr oui regarder regardé cette avec que qui plus si"
    ),
    "de": _set(
        "ist sind bin bist habe hast hat haben nicht ich sie du wir es er aber auch sehr wenn kann kannst "
        "können möchte möchtest würde gerne dir ihnen gefällt gefallen magst mögen empfehle welche welcher "
        "filme weil oder vielleicht schon gesehen hallo ja wie"
    ),
    "it": _set(
        "è sono sei siamo ho hai hanno non ti mi piace piacciono vorrei vuoi puoi posso potrebbe ma anche "
        "molto perché quando quale quali che consiglio consiglierei preferisci visto guardare ciao certo "
        "questo questa più se"
    ),
    "pt": _set(
        "é são está estão você eu ele ela não mas muito também porque quando gosta gostaria gosto tem tenho "
        "pode posso recomendo filmes prefere qual quais que isso este esta olá mais se já viu assistir"
    ),
    "nl": _set(
        "is zijn ben bent heb hebt heeft niet ik je jij u wij maar ook heel erg kan kunt wil wilt zou graag "
        "leuk vind vindt welke omdat wat dit deze aanraden gezien hallo ja als hou houdt"
    ),
    "pl": _set(
        "jest są nie się czy ale bardzo mi ci jak który która które tego ten tak lubisz lubię możesz mogę "
        "chcesz chcę polecam film filmy filmów też jeśli oglądać widziałeś cześć coś dla jakie"
    ),
    "tr": _set(
        "bir ve bu çok için mi mı ne ama değil gibi daha var yok ben sen siz size sana seversin severim "
        "istersin öneririm filmi filmler izledin izlemek hangi merhaba evet olarak ile"
    ),
    "id": _set(
        "yang dan ini itu saya anda kamu tidak untuk dengan apakah bisa adalah akan juga atau suka ada sudah "
        "dari menonton halo jika sangat lebih film"
    ),
    "sv": _set(
        "är jag du inte och det som har kan vill gillar mycket också men om för filmer filmen sett hej vad vilken"
    ),
    "da": _set("er jeg du ikke og det som har kan vil lide meget også men om for filmen set hej hvad hvilken"),
    "cs": _set(
        "je jsem jsi není se to ale velmi také jak který která máš máte mám rád můžu můžete film filmy jaký pokud"
    ),
    "ro": _set("este sunt nu și dar foarte ce care îți îmi place poți pot filmul filme dacă pentru mai vrei ai sau cu"),
    "hu": _set(
        "és nem hogy egy az ez van vagy nagyon szeretem szereted filmet filmek milyen ha is ajánlom szia láttad"
    ),
    "fi": _set("on ei ja se minä sinä en olen oletko mutta myös hyvin elokuva elokuvia pidät haluat voit jos mikä hei"),
    "vi": _set("là và của không bạn tôi có thể được phim này một cho những rất thích muốn xem nếu nào với"),
    "tl": _set("ang ng mga sa ako ikaw mo ko ay ba na po gusto pelikula kung may para ito"),
    "sw": _set("ni na ya wa kwa hii hiyo una unapenda napenda filamu sana lakini kama wewe mimi nzuri"),
}

# What English sentences hold, and German or French ones do not often.
_ENGLISH: Final = _set(
    "the an and or but of to is are was were it this that i i'm i'd i've it's you you're your we they he "
    "she my have has does did not don't for with on at from about what which who how if can could will "
    "would should might like so just any some there been be do know think see seen watch watched try love "
    "loved great good movie movies film films one"
)
_ARTICLES: Final[dict[str, frozenset[str]]] = {
    "es": _set("el la los las un una y o de del en por para con no se le lo su"),
    "fr": _set("le la les un une des et ou de du en dans sur pour"),
    "de": _set("der die das ein eine und von zu im für mit auf den dem in"),
    "it": _set("il lo la gli le un una e o di del in per con"),
    "pt": _set("o a os as um uma e ou de do da em por para com"),
    "nl": _set("de het een en of van te in voor met op"),
}

_WORDS: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_QUOTED: Final = re.compile(
    r"“[^”\n]{1,80}”|«[^»\n]{1,80}»|„[^“”\n]{1,80}[“”]|\"[^\"\n]{1,80}\"|\*{1,2}[^*\n]{1,80}\*{1,2}|《[^》\n]{1,80}》"
)
_DATED: Final = re.compile(r"(?:(?<=[,;:.!?\n])|^)[^,;:\n]{1,70}?\(\d{4}\)", re.MULTILINE)
_ITEM: Final = re.compile(r"^\s*(?:\d{1,2}\s*[.):]|[-*•])\s*[^\n:–—-]{1,70}", re.MULTILINE)
_BETWEEN: Final = re.compile(r"[,;\n]|\s(?:and|or|et|ou|und|oder|y|o|e)\s")


def other_language(text: str, *, expected: str = "en") -> bool:
    """Say whether a text looks like another language than the expected one.

    It does when, titles left out, more than 30 % of its letters are of another script than Latin; or when, among at
    least six words, two or more different sentence words of one other known language make up an eighth of all words and
    more than the words of the expected language. Short answers, languages without a list, and mixtures stay unflagged.
    """
    plain = _without_titles(unicodedata.normalize("NFC", text).replace("’", "'"))
    letters = [char for char in plain if char.isalpha()]
    foreign = sum("LATIN" not in unicodedata.name(char, "") for char in letters)
    if letters and foreign > 0.3 * len(letters):
        return True
    words = [word.casefold() for word in _WORDS.findall(plain)]
    mine = _ENGLISH if expected == "en" else _SENTENCE.get(expected, frozenset()) | _ARTICLES.get(expected, frozenset())
    if len(words) < 6 or not mine:
        return False
    own = sum(word in mine for word in words)
    others = {**_SENTENCE, "en": _ENGLISH}
    del others[expected]
    for sentence in others.values():
        said = [word for word in words if word in sentence and word not in mine]
        if len(set(said)) >= 2 and len(said) >= len(words) / 8 and len(said) > own:
            return True
    return False


def _without_titles(text: str) -> str:
    text = _ITEM.sub(" ", _DATED.sub(" ", _QUOTED.sub(" ", text)))
    parts = _BETWEEN.split(text)
    titles = [_may_be_title(part) for part in parts]
    # A list is three in a row; a sentence with two commas seldom has a capital after each.
    listed = [
        any(all(titles[start : start + 3]) and start + 3 <= len(parts) for start in range(max(0, place - 2), place + 1))
        for place in range(len(parts))
    ]
    return " , ".join("" if is_listed else part for part, is_listed in zip(parts, listed, strict=True))


def _may_be_title(part: str) -> bool:
    plain = part.strip(" .!?¿¡'()")
    return bool(plain) and plain[0].isupper() and len(plain.split()) <= 8
