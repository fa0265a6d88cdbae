"""The words that answers are made of, in the languages that models answer in.

English, Chinese, Japanese, Korean, Spanish, French, German, Italian, Portuguese, Russian and
Dutch. All entries are lower case and written as `mentions.clean` leaves text: plain ASCII digits,
commas, colons, quotes and minus signs.
"""

import re
from typing import Literal

Axis = Literal["image", "row", "column"]

CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Scripts that put no space between words, as ranges of a character class."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _axes(table: dict[Axis, str]) -> dict[str, Axis]:
    return {word: axis for axis, words in table.items() for word in words.split()}


LABELS: dict[str, Axis] = _axes(
    {
        "image": "image img picture pic photo index idx imagen índice bild abbildung immagine "
        "imagem изображение изображении изображения картинка afbeelding plaatje",
        "row": "row fila zeile reihe ligne rangée riga linha строка строке ряд ряду rij",
        "column": "column col columna spalte colonne colonna coluna столбец столбце колонка "
        "колонке kolom",
    }
)
"""Singular only: "images", "rows" and "columns" do not point at one."""

CJK_LABELS: dict[str, Axis] = _axes(
    {
        "image": "图片 图像 张图 图 索引 画像 图號 圖片 圖像 圖 이미지 사진 그림 枚目",
        "row": "行目 行 排 행",
        "column": "列目 列 열",
    }
)

GERMAN_LABELS = _set("bild abbildung zeile reihe spalte")
"""German writes "2. Zeile" for "second row"."""

_ORDINALS = """
first second third fourth fifth sixth seventh eighth ninth tenth
primera segunda tercera cuarta quinta sexta séptima octava novena décima
primer segundo tercer cuarto quinto sexto séptimo octavo noveno décimo
primero . tercero
première deuxième troisième quatrième cinquième sixième septième huitième neuvième dixième
premier seconde
erste zweite dritte vierte fünfte sechste siebte achte neunte zehnte
ersten zweiten dritten vierten fünften sechsten siebten achten neunten zehnten
erstes zweites drittes viertes fünftes sechstes siebtes achtes neuntes zehntes
prima seconda terza quarta . sesta settima ottava nona
primo secondo terzo quarto . sesto settimo ottavo nono decimo
primeira . terceira quarta . . sétima oitava
primeiro . terceiro . . . sétimo oitavo
первая вторая третья четвертая пятая шестая седьмая восьмая
первое второе третье четвертое пятое шестое седьмое восьмое
первый второй третий четвертый пятый шестой седьмой восьмой
eerste tweede derde vierde vijfde zesde zevende achtste negende tiende
"""
ORDINALS: dict[str, int] = {
    word: number
    for line in _ORDINALS.split("\n")
    for number, word in enumerate(line.split(), 1)
    if word != "."
}

CARDINALS: dict[str, int] = {
    word: number
    for line in ("one two three four five six seven eight nine ten", "uno dos tres cuatro cinco")
    for number, word in enumerate(line.split(), 1)
}

CJK_NUMBERS: dict[str, int] = {char: i for i, char in enumerate("一二三四五六七八九十", 1)}

ORDINAL_SUFFIX = r"(?:st|nd|rd|th|º|ª|er|ère|re|ème|eme|e|ste|de|-?(?:й|я|ая|ый|ое|е|ом|ем))"

NEXT_TO_LABEL = frozenset(":=_\"'()[]{}<>/-") | _set(
    "number no nr num n index idx id at the is nº numéro número nummer номер 为 是 号 は"
)
"""What may stand between a label and the number after it."""
ABBREVIATED = _set("no nr n num col img pic idx abb")
"""What a dot may follow without ending a sentence."""
BEFORE_LABEL = _set(
    "张 張 幅 个 個 枚 の 号 번 째 番 目 第 "
    "stitched input given provided full large main composite overall whole"
)
"""What may stand between a number and the label after it."""
OF = _set("of in the from within at inside de la der im des von d l di da do em na")
"""All that stands between "row 2, column 3" and "image 1" where the image belongs to them."""
OR = _set("or and to / & - oder und ou et y e o")
"""Between two numbers: neither of them is the one."""
MANY = _set("images rows columns cols pictures photos subimages cells tiles options step steps")
"""What follows is a list of several, not a cell."""

NULLS = _set("null none nil n/a na")
"""What stands for -1 after a label, as in {"index": null}."""

FILLER = _set(
    """
    a an the this that it its it's is at in on of to for with and here i think believe
    answer answers response result output prediction final assistant sure certainly okay ok
    sub subimage subimages tile cell panel grid location position located coordinate coordinates
    found match matches matching matched best corresponds corresponding described provided given
    caption captions would be should which image images row column index idx number respectively
    found json xml yaml text markdown plaintext latex boxed
    """
)
"""Words beside an answer that leave a sentence nothing but that answer."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def left_over(text: str) -> list[str]:
    """The words and numbers of a stretch that are no filler."""
    return [word for word in _WORD.findall(text) if word not in FILLER]


CAPTION_MARK = re.compile(
    r"\b(?:caption|needle|target|query|description|question|item|bildunterschrift|beschriftung|"
    r"légende|leyenda|descripción|legenda|didascalia|подпись) ?[_#-]? ?(?:no\.? ?|number )?"
    r"([0-9]{1,3})(?![0-9])"
    r"|(?:标题|描述|说明|字幕|题注|キャプション|説明|캡션|설명) ?[_#]? ?([0-9]{1,3})(?![0-9])"
    r"""|["']([0-9]{1,2})["'] ?:"""
    r"|\b(first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth) caption\b"
    r"|\b(?P<nth>(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|"
    r"[0-9]{1,2}(?:st|nd|rd|th))(?= ?[:=)]| (?:one|needle|answer|item|description|is|was|in|at)\b))"
)
"""Says which needle the next words are about, by its number from 1; `nth` only beside another."""

# --------------------------------------------------------------------------- saying "not there"

_THINGS = r"(?:sub ?images?|images?|tiles?|cells?|pictures?|photos?|panels?|grids?)"
_ABSENT = [
    # English
    r"\bno (?:exact |clear |direct |good |suitable |valid |perfect |definitive |obvious |such |"
    r"sub ?images? |images? |captions? )*match(?:es|ing)?\b",
    rf"\bno (?:such |single )?{_THINGS} (?:that |which |here |in [^.\n;]{{0,40}} )?"
    r"(?:match|fit|correspond|depict|show|contain|exist|"
    r"(?:was|were|is|are|can be|could be)? ?found)",
    r"\bno such (?:sub ?image|image|tile|cell|scene|picture|photo|thing)",
    r"\bnone (?:of (?:the|these|those|them|its|my)\b(?! other| rest| remaining)|match|fit)",
    r"\bneither (?:of|image|sub ?image)",
    r"\b(?:not|never|n't) (?:be |been |actually |really |currently )?"
    r"(?:found|present|exist|depicted|located|contained|shown in any)\b",
    r"\bnot in (?:any|either)\b(?! (?:particular|specific|order))",
    r"\bnot in the (?:provided |given |stitched |input )?(?:images?|sub ?images?|grids?|haystack)\b"
    r"(?! \d)",
    r"(?:\bnot|n't) (?:appear|exist)(?! to)\b",
    r"(?:\bnot|n't) (?:match|fit|correspond(?: to| with)?|seem to match) any\b",
    r"(?:\b(?:can|could|did|do|does)(?:not| not|n't)|\b(?:unable|not able|failed) to) "
    r"(?:find|locate|see|spot|detect) "
    r"(?:a |any |an |the |that |this |such |one |it |anything|them|suitable|matching)"
    r"(?!better|closer|other|more|second|captions?\b|attach|upload)",
    r"\bnothing (?:here |in [^.\n;]{0,40} )?(?:match|fit|correspond)",
    r"\bthere(?: is| are| was| were|'s) no\b(?! (?:other|more|need|doubt|better|second|further|"
    r"additional|one |longer|captions?\b|way|information|enough|clear (?:way|indication)))",
    r"\bthere (?:isn't|aren't|wasn't|weren't|is not|are not) (?:a|an|any)\b(?! (?:other|better))",
    r"\bis absent\b",
    r"""['"]?\b(?:(?:is_?|has_?)?(?:found|match|matched|match_?found|exists?|present))['"]? ?"""
    r"""[:=] ?['"]?(?:false|no|none|null)\b""",
    r"""['"]?\b(?:no_?match(?:_?found)?|not_?found|absent)['"]? ?[:=] ?['"]?(?:true|yes)\b""",
    # a part of the text that is nothing but a word for nothing
    r"""(?:^|[;\n]|[\]")'] ?,|(?:["'][0-9]{1,2}|\b(?:answer|response|result|output|match|"""
    r"""location|position|subimage|coordinates?|caption[_ ]?[0-9]{1,2}))['"]? ?[:=])[ "'(\[]*"""
    r"(?P<nothing>null|none|nil|n/a|nothing|absent|not applicable|\[ ?\])"
    r"""[ "')\].}]*(?=[;\n,]|$)""",
    # Chinese, Japanese, Korean
    "(?:没有|沒有|未)(?:找到|发现|發現|任何|匹配|符合|与|與|一张|一個|一个|相匹配|相符|对应)"
    "|无匹配|無匹配|无符合|不存在|找不到|(?:无法|無法|未能)找到|都不(?:匹配|符合|是)|没有$",
    "見つかりません|見つからない|一致する(?:もの|画像|サブ画像)?[はが]?(?:ありません|ない|なし)"
    "|該当(?:する)?(?:もの|画像)?[はが]?(?:ありません|なし|ない)|存在しません|存在しない",
    "없습니다|없음|찾을 수 없|존재하지 않",
    # Spanish, French, German, Italian, Portuguese, Russian, Dutch
    r"\bno (?:hay|existe|se (?:ha |han )?encontr\w*|se encuentra|coincide|aparece|figura)\b"
    r"|\bningun[ao]\b(?! duda)|\bsin coincidencias?\b",
    r"\baucune?\b(?! doute)|\bpas de correspondance\b"
    r"|\bn'(?:apparaît|existe) pas\b|\bn'est pas (?:présent|trouv)",
    r"\bkeine?[rsnm]? (?:übereinstimmung|treffer|passende|teilbild|unterbild|bild|der|davon)"
    r"|\bnicht (?:gefunden|vorhanden|enthalten)\b",
    r"\bnessun[ao]?\b(?! dubbio)|\bnon (?:trovat[ao]|presente|esiste|c'è)\b",
    r"\bnenhuma?\b(?! dúvida)"
    r"|\bnão (?:há|existe|encontrad[ao]|foi encontrad[ao]|encontrei|está presente)\b",
    r"не найден|не обнаружен|нет совпадени|нет подходящ|ни одно|отсутству",
    r"\bgeen (?:overeenkomst|match|van de|enkele)|\bniet gevonden\b",
]
ABSENT = re.compile("|".join(_ABSENT), re.MULTILINE)
"""Says that the needle is not there, in words."""

PARTLY = re.compile(
    r"[^.;\n]{0,20}?\bin (?:the )?(?:other|rest|remaining|(?:images?|rows?|columns?) ?#?[0-9]|"
    r"first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)\b"
)
"""Goes on after "not there" to say that this holds for a part of the haystack only."""

CONDITION = re.compile(r"\b(?:if|whether|when|unless|in case|si|falls|wenn|se)\b[^,.;:\n]*$")
"""Ends a stretch of text whose next words are a condition, not a statement."""

_UNABLE = (
    r"\b(?:can(?:not|'t| not)|could(?:n't| not)|unable to|not able to|won't|will not|"
    r"not (?:allowed|permitted|comfortable) to|do not have the ability to) (?:\w+ ){0,2}?"
)
_REFUSED = [
    _UNABLE + r"(?:assist|help|comply|fulfil|fulfill|provide|answer|process|view|access|"
    r"analy[sz]e|interpret|complete|perform|do that|identify|determine|recogni[sz]e|engage)\b",
    _UNABLE + r"(?:see|open|find) (?:any |the |your |these |those )?"
    r"(?:attached |provided |uploaded )?(?:images?|pictures?|photos?|attachments?|files?)\b"
    r"(?! (?:that|which|with|of|match|show|depict|contain))",
    r"\bas an? (?:ai|artificial|large language|language|text)\b",
    r"\bno (?:images?|pictures?|photos?|attachments?|files?|captions?) "
    r"(?:(?:were|was|are|is|have been|seem) (?:to be )?)?"
    r"(?:provided|attached|uploaded|given|included|visible|available)\b",
    r"\b(?:images?|pictures?|photos?) (?:you mentioned )?(?:were|was|are|is)(?: not|n't) "
    r"(?:provided|attached|visible|available|present|included|loading|displayed)\b",
    r"\bplease (?:provide|upload|attach|share|resend)\b",
    r"\b(?:do not|don't) see any (?:images?|pictures?|photos?|attachments?)(?! (?:that|which|with|"
    r"of|match))",
    "抱歉|对不起|無法(?:查看|處理|識別|回答|協助|提供)|(?:无法|不能)(?:查看|处理|识别|回答|协助|提供|访问|看到图)",
    "申し訳(?:ありません|ございません)|お手伝いできません|죄송",
    r"\blo siento\b|\bno puedo (?:ayudar|ver|procesar|asistir|identificar|proporcionar)",
    r"\bje ne peux pas\b|\b(?:je suis )?désolée?\b|\btut mir leid\b|\bich kann [^.\n]{0,30}nicht\b",
    r"\bnão posso (?:ajudar|ver|processar|identificar)|\bmi dispiace\b"
    "|извините|не могу (?:помочь|увидеть|определить)",
]
REFUSED = re.compile("|".join(_REFUSED))
"""Declines to answer, or says that there was nothing to look at."""

# --------------------------------------------------------------------------- weight and doubt

STRONG = re.compile(
    r"\bfinal (?:answer|response|result|output|location|decision)s?\b"
    r"|最终答案|最終答案|最終回答|최종 답"
    r"|\brespuesta final\b|\bréponse finale\b|\bendgültige antwort\b|\brisposta finale\b"
    r"|\bresposta final\b|окончательный ответ"
)
"""What follows is the answer, whatever stood before."""

WEAK = re.compile(
    r"""\b(?:answer|solution|response|result|conclusion|output)s?(?: ?['"]? ?[:=]"""
    r"| is\b| are\b| would be\b| should be\b)"
    r"|\b(?:therefore|thus|hence|in conclusion|consequently|in summary)\b"
    r"|答案|回答|答え|정답|\brespuesta\b|\bréponse\b|\bantwort\b|\brisposta\b|\bresposta\b|ответ"
)
"""What follows is an answer."""

BOXED = re.compile(r"\nfinal answer \(boxed\): ")
"""What cleaning makes of \\boxed{ and <answer>: one of several may hold one needle's answer."""

SECOND_THOUGHT = re.compile(
    r"\b(?:actually|correction|corrected|on second thoughts?|scratch that|wait|my mistake|my bad|"
    r"i was wrong|mistaken?|sorry|apologies|apologi[sz]e|oops|i meant|hmm+|edit(?= ?:)|"
    r"on reflection|rather(?! than)|instead(?=,)|(?<=[.!?\n] )no(?=,)|(?<=\n)no(?=,)|"
    r"(?:up)?on (?:a )?(?:closer|further|"
    r"second|careful|re-?) ?(?:inspection|examination|look|review|analysis|consideration)|"
    r"looking (?:again|closer|more closely)|let me (?:correct|revise)|i (?:correct|take) (?:myself|"
    r"that back))\b"
)
"""What follows may take back what was said before."""

HEDGE = re.compile(
    r"\b(?:if i (?:had|have|were|was) to|guess|closest|nearest|might be|may be|could be|possibly|"
    r"perhaps|maybe|alternatively|potentially|next best)\b"
)
"""What follows is offered as a guess."""

NEGATED_BEFORE = re.compile(
    r"(?:\b(?:not(?! sure| certain| only| entirely)|unlike|rather than|instead of|except(?: for)?|"
    r"other than|than|neither|nor)|n't) (?:(?!but\b)[a-z']+ ){0,4}$"
)
RULED_OUT = re.compile(
    r"\b(?:rul(?:ed?|ing) out|(?:exclud|eliminat|dismiss|reject|discard)(?:e|ed|ing)?|"
    r"discount(?:ed)?) (?:(?:the|also|both|cells?|tiles?|sub ?images?|locations?|positions?|"
    r"""candidates?|options?) ){0,3}["'(\[]{0,3}$"""
)
NEGATED_AFTER = re.compile(
    r"""['")\]]{0,9} ?(?:(?:is|does|do|did|was|are|can|could)(?: not|n't| n't)\b"""
    r"|(?:is|was|are|were|can be|could be|must be|has been|have been) "
    r"(?:ruled out|excluded|eliminated|dismissed|rejected|discarded|discounted)\b"
    r"|(?:is|was|were|seems|looks) (?:wrong|incorrect|a mistake|my (?:first|initial|original) )"
    r"|\(?(?:ruled out|excluded|eliminated|dismissed|rejected|discarded|wrong)\b"
    r"|(?:,? ?(?:and|but) )(?:then |i |later ){0,2}(?:ruled|excluded|eliminated|dismissed|rejected|"
    r"discarded) (?:it|that|this)\b)"
)
"""A cell that the text rules out."""
AND = re.compile(r"""['")\]]{0,3},? (?:and|or|nor|as well as) ["'(\[]{0,3}""")
"""Between two cells of which the same is said."""

REASON = re.compile(r"\b(?:because|since|given that|seeing that)\b")
"""What follows, to the end of the sentence, is why; where it is not `TURN`."""
TURN = re.compile(
    r"\b(?:but|however|so|therefore|thus|hence|yet|although|though|instead|answer|while|whereas)\b|;"
)
"""A sentence goes on with something else."""

HEADER = re.compile(
    r"\b(index|image|row|col(?:umn)?)['\"]? ?[,|/] ?['\"]?(index|image|row|col(?:umn)?)"
    r"['\"]? ?[,|/] ?(?:and )?['\"]?(index|image|row|col(?:umn)?)\b"
)
"""Says in which order three numbers stand; the prompt's own order has been cleaned away."""

BACKWARDS = re.compile(r" ?,? ?(?:(?:row|column) )?(?:counting )?from (?:the )?(?:bottom|right)\b")
"""Counts rows or columns from the other end."""
