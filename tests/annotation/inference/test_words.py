"""The rules of thumb over words: refusals, messages of errors, other languages, nothing at all. Every sentence here was
made up for this test."""

from __future__ import annotations

import pytest

from annotation.inference.answers import Completion, flags_of, wordless
from annotation.inference.errortexts import is_error_text
from annotation.inference.languages import other_language
from annotation.inference.reasoning import opens_reasoning, without_reasoning
from annotation.inference.refusals import declines

REFUSALS = """
I’m sorry, but I can’t help with that.
I'm sorry, but I can't help with that request.
I am sorry, I cannot assist you with this.
Sorry, I can't do that.
Sorry, but I can‘t provide that information.
I'm really sorry, but I'm unable to help with that.
I'm so sorry, but I am not able to assist with that request.
I apologize, but I cannot fulfill this request.
I apologise, but I cannot fulfil that request.
My apologies, but I can't generate that kind of content.
Apologies, I cannot provide a recommendation based on this.
Unfortunately, I can't answer that question.
Unfortunately, I cannot discuss that topic.
Regrettably, I am unable to comply with this request.
I regret that I cannot help you with this.
I can't help with that.
I cannot help you find pirated copies.
I can not assist with this.
I can't assist with that, sorry.
I cannot provide medical advice.
I can't provide any recommendations.
I won't be able to help you with that.
I will not be able to provide that.
I won't generate this content.
I will not engage in this conversation.
I'm unable to provide recommendations.
I am unable to answer that.
I am currently unable to process your request.
I'm not able to continue this conversation.
I'm not allowed to discuss that.
I am not permitted to share personal data.
I'm not comfortable discussing this topic.
I am not programmed to answer questions of this kind.
I must decline to answer.
I must respectfully decline.
I don't have the ability to generate recommendations from this.
I do not have the capability to provide links.
I don't have enough information to make a recommendation.
As an AI language model, I cannot watch movies.
As an AI, I am unable to provide that.
As a large language model, I can't give personal opinions on this.
As an AI assistant, I'm not able to help with illegal downloads.
I'm sorry, but as an AI language model, I cannot do that.
I'm sorry, but I cannot recommend any movies with that content.
Well, I can't help you with that, I'm afraid.
"I'm sorry, but I can't help with that."
**I'm sorry**, but I can't assist with that request.
Hi there! I'm sorry, but I can't assist with that request.
I'm sorry, but the information provided is not sufficient to generate recommendations.
Your request violates my guidelines.
This topic goes against our policy.
It would not be appropriate for me to comment on that.
I'd rather not discuss that.
I'm sorry, I can't help with that. Is there anything else I can do for you?
I'm sorry, but I can't help with that, but I can help you with something else.
I can't recommend anything of that kind.
""".strip().splitlines()

ANSWERS = """
I can't help but love that film!
I cannot help but recommend Alien.
I can't help laughing whenever I see it.
I can't help it, I adore musicals.
Unfortunately I can't discuss spoilers, but you should watch Alien!
I can't wait to see it, did you like it?
I can't recommend it enough!
I cannot recommend this film highly enough.
I can't recommend Cats, it was dreadful.
I can't believe you have not seen Jaws!
I can't remember the name of the actor.
I can't think of a better comedy than Airplane!
I can't say I have seen that one.
I can't stop thinking about the ending.
I can't stand horror films either.
I can't tell you how good it is!
I can't get enough of Tom Hanks.
I couldn't agree more, it is a classic.
I couldn't look away during the last scene.
I won't spoil it, but the ending is great.
I won't lie, I cried.
I will not forget that scene.
I won't be able to sleep after watching that!
I am unable to choose between the two, both are great.
I am not able to pick one favourite.
Sorry, I haven't seen that one! Is it good?
Sorry, I meant the one from 1984.
Sorry about that! Have you seen The Mask?
Sorry to hear that. A comedy may cheer you up.
I'm sorry to hear that. A comedy like Superbad could help you feel better.
I'm sorry you didn't like it. What about Inception?
I'm so sorry for your loss. Perhaps a quiet film would be good.
I'm sorry, I don't know that one. Who is in it?
I'm sorry, I am not sure which one you mean.
I apologize for the confusion. Here are some other films: Heat, Ronin.
My apologies! You might like Heat then.
Apologies, I misread. Have you seen Heat?
Unfortunately it was a flop, yet I enjoyed it.
Unfortunately, I have not seen it.
Unfortunately I can't answer for everyone, but I loved it.
Unfortunately, I can't provide showtimes. However, I can recommend Heat.
I can't provide spoilers, but have you seen The Others?
I'm sorry, I can't provide a trailer, but you might like Rogue One.
I can't share much without spoiling it, but it's a thriller you would enjoy.
As a language model I know many films. Which do you like?
As an AI, I don't have feelings, but I would recommend Up.
As an AI language model, I can't watch films, but I hear that Up is lovely.
As an AI, I can recommend a few: Up, Coco.
I'm just an AI, so I have no favourite. Do you like comedies?
The hero can't help his friend in time.
He refuses to help the police and runs.
She cannot answer the phone, and that is when it starts.
They won't help him, so he goes alone.
You can't go wrong with Pixar.
You can't help but smile at Paddington.
We can't provide for everyone, says the father in that film.
I Can't Sleep (1994) is a French film.
You Can't Take It with You is a classic.
Can't Hardly Wait is a good one.
Sorry to Bother You (2018) is wild. Have you seen it?
Sorry, Wrong Number is a film noir that you may like.
Unable to sleep? Try a quiet film like Paterson.
Help! is a Beatles film.
I don't have a favourite, but Heat is great.
I don't have enough time to watch them all!
I don't have enough information about your taste yet. Do you like comedies?
I must admit I cried.
I must say, that was good.
I'd rather not watch horror. What about you?
I cannot generate as much excitement for sequels, but here are three good ones: Aliens, T2, Heat.
""".strip().splitlines()


def test_the_lists_are_as_long_as_they_claim() -> None:
    assert len(set(REFUSALS)) >= 40
    assert len(set(ANSWERS)) >= 60


@pytest.mark.parametrize("text", REFUSALS)
def test_declining_to_answer_is_a_refusal(text: str) -> None:
    assert declines(text)
    assert flags_of(Completion(text, "stop"), limit=128) == ("refusal",)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_no_refusal_whatever_its_words(text: str) -> None:
    assert not declines(text)
    assert flags_of(Completion(text, "stop"), limit=128) == ()


ERRORS = [
    "Request timed out",
    "Request timed out.",
    "The request timed out. Please try again.",
    "502",
    "504.",
    "502 Bad Gateway",
    "503 Service Temporarily Unavailable",
    "HTTP 500",
    "HTTP/1.1 429 Too Many Requests",
    "Error 404: Not Found",
    "Error code: 429 - {'error': {'message': 'Rate limit reached'}}",
    "429 Too Many Requests: slow down",
    "null",
    "undefined",
    "{}",
    "[]",
    '{"message": "Internal"}',
    '{"error": "overloaded"}',
    '{"error": {"message": "cut in the mid',
    '{"detail": "Not Found"}',
    '{"statusCode": 500, "message": "Something broke somewhere in the back end today", "error": "x"}',
    "Unexpected EOF",
    "unexpected EOF while reading",
    "Internal Server Error",
    "Internal Server Error: the upstream model is not available.",
    "Bad Gateway",
    "Gateway Time-out",
    "Connection error.",
    "Connection refused",
    "Connection reset by peer",
    "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
    "upstream request timeout",
    "no healthy upstream",
    "context deadline exceeded",
    "Rate limit reached for the model in your organization on tokens per min.",
    "Error: rate limit exceeded, try again later",
    "Error: Request failed with status code 500",
    "ERROR: model not loaded: connection refused",
    "Error:",
    "openai.APIConnectionError: Connection error.",
    "ValueError: too many values to unpack",
    "java.lang.NullPointerException: null",
    "CUDA out of memory. Tried to allocate 20.00 MiB",
    "The server is overloaded or not ready yet.",
    "The model is currently overloaded with other requests.",
    "This model's maximum context length is 4097 tokens.",
    "Something went wrong. Please try again later.",
    "<!DOCTYPE html><html><body>x</body></html>",
    "\n<html>\n<head><title>502 Bad Gateway</title></head>",
    "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    'Traceback (most recent call last):\n  File "x.py", line 1, in <module>',
    "oops\nTraceback (most recent call last):",
    'Exception in thread "main" java.lang.Error\n\tat com.example.Main.run(Main.java:12)',
    "goroutine 1 [running]:",
    "    at handle (server.js:10:5)",
]

NO_ERRORS = [
    "Connection Error (2009) is a film you might like",
    "Error 404 is a nice short film.",
    "500 Days of Summer is lovely. Have you seen it?",
    "404 is a horror film, not found on many lists. Want it?",
    "The Terror of Error is a good film, have you seen it?",
    "Internal Server Error (2021) is a short film about an office.",
    "Bad Gateway is a thriller that I liked.",
    "Timeout is a documentary.",
    "Error: A Love Story is a sweet one.",
    "Have you seen 404?",
    "451 degrees? You mean Fahrenheit 451!",
    "Null is the name of the hero.",
    "Unexpected is a film about a teacher.",
    "Connection is what that film is about.",
    "Request denied? No, I don't know that one.",
    "Forbidden Planet (1956)",
    "Not found in theatres, but on DVD.",
    "The server is the funniest character, he runs a diner.",
    "The model is played by a newcomer.",
    '{"response": "Try Alien."}',
    '{"message": "Have you seen Alien? It is a classic."}',
    "[Alien, Aliens]",
    "At Eternity's Gate (2018) is about van Gogh.",
    "Trial and Error is a comedy.",
    "Panic Room (2002)",
    "Something went wrong in that sequel, I think.",
]


@pytest.mark.parametrize("text", ERRORS)
def test_a_message_of_an_error_is_no_answer(text: str) -> None:
    assert is_error_text(text)


@pytest.mark.parametrize("text", NO_ERRORS)
def test_a_film_that_is_named_like_an_error_is_an_answer(text: str) -> None:
    assert not is_error_text(text)
    assert "error_text" not in flags_of(Completion(text, "stop"), limit=128)


TITLES = [
    "Le Fabuleux Destin d'Amélie Poulain, La Haine, Les Intouchables, Le Dîner de cons, La Grande Vadrouille",
    "Das Leben der Anderen, Der Untergang, Lola rennt, Das Boot, Good Bye Lenin, Die Welle",
    "Lo que el viento se llevó, Todo sobre mi madre, Hable con ella, Y tu mamá también",
    "Je vous trouve très beau, La Haine, Qu'est-ce qu'on a fait au Bon Dieu ?, Les Intouchables",
    "You might like Le Fabuleux Destin d'Amélie Poulain, La Haine, Les Intouchables and Le Dîner de cons.",
    "1. Wer früher stirbt ist länger tot\n2. Das Leben der Anderen\n3. Der Himmel über Berlin",
    '"Mujeres al borde de un ataque de nervios" or "La lengua de las mariposas"',
    "Das Leben der Anderen (2006), Der Untergang (2004), Wer früher stirbt ist länger tot (2006)",
    "I love La casa de papel and El laberinto del fauno, did you like it?",
    "For a German night: Was nützt die Liebe in Gedanken, Die fetten Jahre sind vorbei, Soul Kitchen.",
    "- La vita è bella\n- Il postino\n- Nuovo Cinema Paradiso\n- Non ci resta che piangere",
    "You can watch Das Boot.",
    "Hm, no.",
]

OTHERS = [
    "¿Te gustan las películas de terror o prefieres una comedia para ver con la familia?",
    "Claro, la película es muy buena y el final es una sorpresa para todos los que la ven.",
    "Bonjour ! Je vous recommande La Haine, c'est un très bon film.",
    "Ich habe den Film nicht gesehen, aber er ist sehr gut und die Musik auch.",
    "Ti piacciono i film horror? Non ho visto quello, ma è molto bello.",
    "Você gosta de filmes de terror? Eu recomendo O Iluminado, é muito bom.",
    "Houd je van komedies? Ik heb die film niet gezien, maar hij is heel leuk.",
    "Czy lubisz filmy akcji? Polecam Matrix, to jest bardzo dobry film.",
    "Hangi filmleri seversin? Sana bir korku filmi öneririm, çok güzel.",
    "Apakah Anda suka film komedi? Saya bisa merekomendasikan film yang bagus.",
    "Gillar du skräckfilmer? Jag tycker att filmen är mycket bra och du kan se den.",
    "Máš rád komedie? Ten film jsem viděl a je velmi dobrý, ale můžu doporučit jiný.",
    "你喜欢什么样的电影?",
    "Вы любите комедии?",
]


@pytest.mark.parametrize("text", TITLES)
def test_foreign_titles_are_no_other_language(text: str) -> None:
    assert not other_language(text)


@pytest.mark.parametrize("text", OTHERS)
def test_sentences_in_another_language_are(text: str) -> None:
    assert other_language(text)


@pytest.mark.parametrize(
    "text", ["", " \n\t", '""', "“”", "''", "\u200b\u2060\ufeff", "\x00\x01", "\u3164 \u2800", "\u202e"]
)
def test_an_answer_of_which_nothing_can_be_seen_is_empty(text: str) -> None:
    assert wordless(text)
    assert "empty" in flags_of(Completion(text, "stop"), limit=128)


@pytest.mark.parametrize("text", ["?", "...", "5", "no", "😀", '"a"', "\x1b[31mred"])
def test_an_answer_of_which_something_can_be_seen_is_not(text: str) -> None:
    assert not wordless(text)


@pytest.mark.parametrize(
    ("text", "answer", "unclosed"),
    [
        ("Try Alien.", "Try Alien.", False),
        ("<think>a</think>Try Alien.", "Try Alien.", False),
        ("<think></think>\n\nTry Alien.", "Try Alien.", False),
        ("<THINK>a</THINK>Try Alien.", "Try Alien.", False),
        ("[THINK]a[/THINK]Try Alien.", "Try Alien.", False),
        ("<think>a<think>b</think>c</think>Try Alien.", "Try Alien.", False),
        ("the prompt began it</think>Try Alien.", "Try Alien.", False),
        ("Sure. <thinking>a</thinking> Try Alien.", "Sure.  Try Alien.", False),
        ("<think>a</think>One.<think>b</think>Two.", "One.Two.", False),
        ("<think>I keep thinking", "", True),
        ("Sure. <think>I keep", "Sure.", True),
        ("I think <b>Alien</b> is good", "I think <b>Alien</b> is good", False),
    ],
)
def test_reasoning_is_taken_off(text: str, answer: str, unclosed: bool) -> None:
    apart = without_reasoning(text)
    assert (apart.answer, apart.unclosed) == (answer, unclosed)
    assert (apart.reasoning > 0) == (answer != text and "></" not in text)


def test_a_prompt_that_begins_the_reasoning_is_known() -> None:
    assert opens_reasoning("<|assistant|><think>\n")
    assert not opens_reasoning("<|assistant|><think>\n\n</think>\n\n")
    assert not opens_reasoning("<|assistant|>")
