"""The offline estimate of tokens, and what is cut and split by it."""

import re

import pytest

from pgembedding_django.embedders.dummy import DummyEmbedder
from pgembedding_django.embedders.tokens import estimate_tokens, split, truncate


@pytest.mark.parametrize(
    ("text", "estimate"),
    [
        ("", 1),
        ("a", 1),
        ("abc", 1),
        ("abcd", 2),
        ("a b c", 2),
        ("x" * 300, 100),
        ("жж", 3),  # 4 bytes
        ("日本語", 6),  # 9 bytes
        ("🎉", 3),  # 4 bytes
        ("abcж", 3),
        ("\ud800", 2),
        ("\x00\x00\x00", 3),
        ("!?;", 3),
        ("123", 2),  # one, and what is before it
        ("1234", 3),
        ("1234567890" * 10, 35),
        ("1 22 333", 6),
        ("v1.5", 5),
    ],
)
def test_estimate_tokens_counts_by_kind(text, estimate):
    assert estimate_tokens(text) == estimate


#: Tokens of cl100k_base (OpenAI Cookbook, "How to count tokens with tiktoken"; OpenAI, "Hello GPT-4o", "Language
#: tokenization", the counts before it).
KNOWN = [
    (6, "tiktoken is great!"),
    (6, "antidisestablishmentarianism"),
    (9, "お誕生日おめでとう"),
    (145, "હેલો, મારું નામ જીપીટી-4o છે. હું એક નવા પ્રકારનું ભાષા મોડલ છું. તમને મળીને સારું લાગ્યું!"),
    (159, "నమస్కారము, నా పేరు జీపీటీ-4o. నేను ఒక్క కొత్త రకమైన భాషా మోడల్ ని. మిమ్మల్ని కలిసినందుకు సంతోషం!"),
    (116, "வணக்கம், என் பெயர் ஜிபிடி-4o. நான் ஒரு புதிய வகை மொழி மாடல். உங்களை சந்தித்ததில் மகிழ்ச்சி!"),
    (90, "नमस्ते, मेरा नाम जीपीटी-4o है। मैं एक नए प्रकार का भाषा मॉडल हूँ। आपसे मिलकर अच्छा लगा!"),
    (82, "ہیلو، میرا نام جی پی ٹی-4o ہے۔ میں ایک نئے قسم کا زبان ماڈل ہوں، آپ سے مل کر اچھا لگا!"),
    (39, "Привет, меня зовут GPT-4o. Я — новая языковая модель, приятно познакомиться!"),
    (45, "안녕하세요, 제 이름은 GPT-4o입니다. 저는 새로운 유형의 언어 모델입니다, 만나서 반갑습니다!"),
    (46, "Xin chào, tên tôi là GPT-4o. Tôi là một loại mô hình ngôn ngữ mới, rất vui được gặp bạn!"),
    (34, "你好，我的名字是GPT-4o。我是一种新型的语言模型，很高兴见到你!"),
    (37, "こんにちは、私の名前はGPT-4oです。私は新しいタイプの言語モデルです。初めまして！"),
    (39, "Merhaba, benim adım GPT-4o. Ben yeni bir dil modeli türüyüm, tanıştığımıza memnun oldum!"),
    (34, "Ciao, mi chiamo GPT-4o. Sono un nuovo tipo di modello linguistico, piacere di conoscerti!"),
    (34, "Hallo, mein Name is GPT-4o. Ich bin ein neues KI-Sprachmodell. Es ist schön, dich kennenzulernen."),
    (27, "Hello, my name is GPT-4o. I'm a new type of language model, it's nice to meet you!"),
]


@pytest.mark.parametrize(("tokens", "text"), KNOWN)
def test_estimate_tokens_errs_high(tokens, text):
    assert estimate_tokens(text) >= tokens


def test_estimate_tokens_of_english_errs_by_less_than_a_third():
    tokens, english = KNOWN[-1]
    assert estimate_tokens(english) < tokens * 4 / 3


@pytest.mark.parametrize("text", ["1 2 3 4 5", "2024-01-05", "3.14159, 2.71828", "1,2,3\n4,5,6\n", "{}[]();:"])
def test_estimate_tokens_of_digits_and_symbols_is_no_less_than_their_groups(text):
    # The pattern of cl100k_base without its letters: digits in groups of three, blanks before them, and single symbols.
    assert estimate_tokens(text) >= len(re.findall(r"\d{1,3}|\s+|[^\s\d]", text))


def test_embedder_estimate_counts_the_prefix_of_documents():
    assert DummyEmbedder(document_prefix="abc").estimate_tokens("abc") == 2


@pytest.mark.parametrize("text", ["x" * 1000, "ж" * 1000, "xж🎉日" * 250, "🎉" * 1000, "1 22,333" * 99, "short"])
def test_truncate_gives_the_longest_head_that_fits(text):
    head = truncate(text, 50)
    assert text.startswith(head)
    assert estimate_tokens(head) <= 50
    assert head == text or estimate_tokens(text[: len(head) + 1]) > 50


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([1], [[0]]),
        ([1, 1, 1, 1], [[0, 1, 2], [3]]),  # most texts
        ([4, 4, 4], [[0, 1], [2]]),  # most tokens
        ([11, 1], [[0], [1]]),  # one alone
        ([1, 11, 1], [[0], [1], [2]]),
        ([5, 5, 1], [[0, 1], [2]]),
    ],
)
def test_split_fills_requests_in_order(sizes, parts):
    assert [list(part) for part in split(sizes, most_texts=3, most_tokens=10)] == parts
