"""Bits: what is taken for them, and how they travel."""

import struct

import numpy as np
import pgvector
import pytest

from pgembedding_django.vectors import InvalidVector, to_bits
from pgembedding_django.vectors.bits import pack_bits


@pytest.mark.parametrize(
    "value",
    ["101", [True, False, True], (1, 0, 1), np.array([True, False, True]), np.uint8([1, 0, 1]), pgvector.Bit("101")],
    ids=["text", "booleans", "integers", "array", "array of integers", "pgvector"],
)
def test_value_of_every_kind_is_the_same_text(value):
    assert to_bits(value, dimensions=3) == "101"


def test_bytes_are_eight_bits_each():
    assert to_bits(b"\x05\xff") == "0000010111111111"
    assert to_bits(np.packbits(np.ones(8, bool)).tobytes()) == "11111111"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("12", "str"),
        ("", "str"),
        ([2, 0], "list"),
        ([1.0], "list"),
        (np.eye(2, dtype=int), "ndarray"),
        (5, "int"),
        (None, "NoneType"),
    ],
)
def test_value_that_is_no_bits_is_refused(value, kind):
    with pytest.raises(InvalidVector) as caught:
        to_bits(value, name="Page.print")
    assert str(caught.value) == f'Page.print must be bits, as "101", booleans or bytes, got {kind}.'


def test_bits_of_another_length_are_refused():
    with pytest.raises(InvalidVector) as caught:
        to_bits("101", name="Page.print", dimensions=4)
    assert str(caught.value) == "Page.print must have 4 bits, got 3."


def test_pack_bits_writes_the_length_and_eight_bits_in_a_byte():
    assert pack_bits("101000001") == struct.pack(">i", 9) + bytes([0b10100000, 0b10000000])
