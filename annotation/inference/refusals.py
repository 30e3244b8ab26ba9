"""Whether an answer declines to answer. Rules of thumb over English words, listed with their cases in the tests.

Declining is a clause near the beginning in which the system says that it cannot, may not or will not do what an
assistant does (help, provide, generate, discuss …), and after which it does not do it all the same.
"""

from __future__ import annotations

import re
from typing import Final

_APOSTROPHES: Final = str.maketrans(dict.fromkeys("’‘ʼ`´＇ʹ", "'"))

_CANNOT: Final = r"""(?:
    can't | cannot | can\ not | couldn't | could\ not | won't | will\ not | (?:won't|will\ not)\ be\ able\ to
  | (?:'m|\ am)\ (?:currently\ |really\ |just\ )?(?:unable\ to | not\ able\ to | not\ (?:allowed|permitted|programmed
    |designed|authori[sz]ed|equipped|comfortable(?:\ with)?)\ (?:to\ )?)
  | (?:don't|do\ not)\ (?:have\ the\ (?:ability|capability|capacity)\ to | feel\ comfortable)
  | (?:must|have\ to|need\ to)\ (?:respectfully\ |politely\ )?decline(?:\ to)?
)"""

_DO: Final = r"""(?:
    help(?:ing)?(?!\ (?:but\b|it\b|myself\b|loving|laughing|smiling|thinking|wondering|feeling|noticing|crying|being))
      (?:\ you)?(?=\ (?:with|on|find|in|to|out|that)\b|\ you|[.!,;]|$)
  | assist(?:ing)? | comply(?:ing)? | fulfil{1,2}(?:ing)? | engag(?:e|ing)\ (?:in|with)
  | provid(?:e|ing) | generat(?:e|ing) | creat(?:e|ing) | produc(?:e|ing)
  | (?:answer(?:ing)?|respond(?:ing)?)(?!\ for\b) | process\ (?:this|that|your|the)
  | complet(?:e|ing)\ (?:this|that|your|the)
  | do\ (?:that|this|so)(?=[.!,;]|$|\ for\ you) | continu(?:e|ing)\ (?:with\ )?(?:this|the|our)
  | (?:discuss(?:ing)?|talk(?:ing)?\ about|support|shar(?:e|ing))
  | (?:offer|give)\ (?:you\ )?(?:any|an?|the|more
    |specific|accurate|that|medical|legal|recommendations|suggestions|advice)
  | make\ (?:any\ |accurate\ |specific\ )?(?:recommendations|suggestions)
  | (?:recommend|suggest)\ (?:you\ )?(?:any(?:thing)?\b(?!\ better)|movies|films|specific|titles|something\b(?!\ better)
    |content|such|that\ (?:kind|type|sort)|illegal|pirated)
)"""

_SORRY: Final = r"""(?:(?:i'm|i\ am|we're|we\ are)\ (?:\w+\ )?sorry | sorry | (?:my\ )?apologies | i\ (?:sincerely\ )?
    apologi[sz]e | unfortunately | regrettably | i\ regret)"""

_LACKS_TO: Final = r"""(?:
    i\ (?:don't|do\ not)\ have\ (?:enough|sufficient|the\ (?:necessary|required|needed)|access\ to)\b
    [^.!?\n]{0,80}?\bto\ (?:generate|provide|make|recommend|answer|give|match)
)"""

_LACKS: Final = rf"""(?: {_LACKS_TO}
  | (?:context|information|data|details|conversation|pieces|snippets?)\b[^.!?\n]{{0,90}}?
      (?:doesn't|does\ not|don't|do\ not|lacks?|isn't|is\ not|insufficient|incomplete|fragmented)\b[^.!?\n]{{0,160}}?
      \b(?:generat|provid|mak|recommend|answer)(?:e|es|ing)?\b
)"""

_DECLINES: Final = (
    re.compile(
        rf"^(?:{_SORRY}[^.!?\n]{{0,60}}?\b(?:i|we)|[^.!?\n]{{0,60}}?\bi)\ ?{_CANNOT}\ ?(?:\w+ly\ )?{_DO}",
        re.IGNORECASE | re.VERBOSE,
    ),
    re.compile(rf"^{_SORRY}[^.!?\n]{{0,50}}?\b{_LACKS}", re.IGNORECASE | re.VERBOSE),
    re.compile(rf"^{_LACKS_TO}", re.IGNORECASE | re.VERBOSE),
    # A second sentence may say what the first apologises for.
    re.compile(rf"^{_SORRY}[^.!?\n]{{0,160}}[.!]\s+i\ ?{_CANNOT}\ ?(?:\w+ly\ )?{_DO}", re.IGNORECASE | re.VERBOSE),
    re.compile(
        rf"^[^.!?\n]{{0,60}}?\bas\ an?\ (?:ai|(?:large\ |ai\ )?language\ model|(?:ai|virtual)\ assistant)\b"
        rf"[^.!?\n]{{0,60}}?\bi\ ?{_CANNOT}\b",
        re.IGNORECASE | re.VERBOSE,
    ),
    re.compile(
        r"^(?:that|this|your)(?: request| topic| question| content)? (?:is against|goes against|violates|"
        r"falls outside) (?:my|our|the) (?:guidelines|policy|policies|programming|terms)",
        re.IGNORECASE,
    ),
    re.compile(
        r"^i(?:'d| would) (?:rather|prefer) not(?: to)? (?:discuss|answer|talk about|say|engage)", re.IGNORECASE
    ),
    re.compile(
        r"^(?:it (?:would not|wouldn't|is not|isn't) (?:be )?appropriate for me to"
        r"|i must (?:respectfully |politely )?decline)",
        re.IGNORECASE,
    ),
)

# It goes on to answer. "But I can help with something else" is no answer.
_GOES_ON: Final = re.compile(
    r"""(?:[,;–—-]|[.!]\s)\s*(?:but|however|though|yet|instead|that\ said|still)\b
        (?![^.!?\n]{0,80}\b(?:else|other|different)\b)
        (?!,?\ (?:i'm|i\ am)\ (?:happy|glad|here|able)\ to\ (?:help|assist))
        (?!\ (?:feel\ free|please|if\ you\ (?:have|provide|could)))
    | \b(?:here\ (?:are|is)|have\ you\ (?:seen|watched|tried|heard)|how\ about|what\ about
        |you\ (?:might|may|should|could|can)\ (?:also\ )?(?:like|enjoy|love|try|watch|check)
        |i(?:'d|\ would|\ can|\ do|\ could)?\ (?:definitely\ |highly\ |still\ )?
            (?:recommend|suggest)\ (?!.{0,30}\belse\b))
    | \n\s*(?:1[.):]|[-*•])\s""",
    re.IGNORECASE | re.VERBOSE,
)
_HEARS: Final = re.compile(r"^(?:i'm |i am )?(?:\w+ )?sorry (?:to hear|about|for|that you|you|if)\b", re.IGNORECASE)


def declines(text: str) -> bool:
    """Say whether an answer declines to answer."""
    plain = re.sub(r"[ \t]+", " ", text.translate(_APOSTROPHES)).strip().lstrip("\"'*_>#“”« ").strip()
    plain = re.sub(r"^(?:hi|hello|hey|oh|well|hmm+|uh|ah)(?: there)?[,!.]? ", "", plain, flags=re.IGNORECASE)
    if _HEARS.match(plain):
        return False
    found = [match.end() for match in (rule.search(plain[:360]) for rule in _DECLINES) if match]
    return bool(found) and not _GOES_ON.search(plain[min(found) : min(found) + 400])
